"""Send numbered lines through a port that echoes, and check what comes back.

stream_port.py spice://127.0.0.1:5900 org.example.echo 1000

The port is the same stream of bytes wherever the machine is: nothing here knows of migrations.
"""

import asyncio
import sys

import aiospice


async def send(port: aiospice.Port, lines: int) -> None:
    for number in range(lines):
        await port.write(b"line %d\n" % number)  # waits while the guest doesn't read


async def check(port: aiospice.Port, lines: int) -> None:
    for number in range(lines):
        wanted = b"line %d\n" % number
        found = await port.readexactly(len(wanted))
        if found != wanted:
            raise SystemExit(f"expected {wanted!r}, got {found!r}")


async def main(address: str, name: str, lines: int) -> None:
    async with aiospice.connect(address, channels=["port"]) as session:
        port = await session.port(name)
        async with asyncio.TaskGroup() as group:
            group.create_task(send(port, lines))
            group.create_task(check(port, lines))
        print(f"{lines} lines came back, each once and in order")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    except* aiospice.AiospiceError as group:
        print(*group.exceptions, sep="\n", file=sys.stderr)
        sys.exit(1)
