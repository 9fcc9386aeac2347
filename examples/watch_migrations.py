"""Tell where a machine goes: watch_migrations.py spice://127.0.0.1:5900 [COUNT]

With COUNT the program ends after so many migrations.
"""

import asyncio
import sys

import aiospice


async def main(address: str, count: int) -> None:
    done = 0
    async with aiospice.connect(address) as session:
        print(f"connected to {session.address}", flush=True)
        async for event in session.events():
            if not event.kind.startswith(("migration-", "channel-moved", "bytes-at-risk")):
                continue
            values = event.as_dict()
            if event.kind == "migration-finished":
                done += 1
                print(
                    f"{values['mode']}: now at {session.address} after a pause of "
                    f"{values['pause'] * 1000:.1f} ms, {values['bytes_at_risk']} bytes at risk",
                    flush=True,
                )
            else:
                # str() of an event is one line; text of the peer in it is shown escaped.
                print(ascii(str(event))[1:-1], flush=True)
            if done and done == count:
                return


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
    except aiospice.AiospiceError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
