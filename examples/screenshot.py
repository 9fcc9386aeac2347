"""Save the screen of a machine as a PPM file: screenshot.py spice://127.0.0.1:5900 screen.ppm"""

import asyncio
import sys
from pathlib import Path

import aiospice


async def main(address: str, path: str) -> None:
    # Only what is needed is opened: a display, and main, which is always there.
    async with aiospice.connect(address, channels=["display"]) as session:
        picture = await session.screen(settle=0.2)
    header = f"P6 {picture.width} {picture.height} 255\n".encode()
    Path(path).write_bytes(header + picture.rgb())
    print(f"{path}: {picture.width} x {picture.height}")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
    except aiospice.AiospiceError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
