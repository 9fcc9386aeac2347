"""Log in at a text console: type_login.py spice://127.0.0.1:5900 USER

The password of the account is read from the variable GUEST_PASSWORD, so that it doesn't stand in
the list of processes.
"""

import asyncio
import os
import sys

import aiospice


async def main(address: str, user: str, password: str) -> None:
    async with aiospice.connect(address, channels=["inputs"]) as session:
        # The layout is that of the guest, whatever the keyboard here is.
        await session.keyboard.type(f"{user}\n", layout="us")
        await asyncio.sleep(1)  # getty asks for the password
        await session.keyboard.type(f"{password}\n", layout="us")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], os.environ["GUEST_PASSWORD"]))
    except aiospice.AiospiceError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
