"""A guest of one's own: a sheet to paint on, with the left button. paint.py [PORT]

Any key gives a new sheet. The port org.example.paint tells how many strokes there were.
"""

import asyncio
import sys

import aiospice

WIDTH, HEIGHT, PEN = 640, 480, 2
RED = (0, 0, 255, 0)  # blue, green, red, nothing


class Paint(aiospice.Guest):
    name = "paint"

    def attach(self, host):
        """The server has started: make displays and devices here."""
        self.display = host.display(0)
        self.display.resize(WIDTH, HEIGHT)
        self.port = host.port("org.example.paint")
        self.port.opened = True
        self.strokes = 0
        self.clear()

    def clear(self):
        self.display.fill(0, 0, WIDTH, HEIGHT, 0xFFFFFF)

    def mouse_move(self, x, y, display, buttons):
        if buttons & 1:
            left, top = max(x - PEN, 0), max(y - PEN, 0)
            self.display.pixels[top : y + PEN + 1, left : x + PEN + 1] = RED
            self.display.update(left, top, 2 * PEN + 1, 2 * PEN + 1)

    def mouse_button(self, button, pressed, buttons):
        if button == 1 and not pressed:
            self.strokes += 1
            self.port.write(f"{self.strokes}\n".encode())

    def key(self, code, pressed):
        if pressed:
            self.clear()


async def main(port):
    async with aiospice.serve(Paint(), "127.0.0.1", port) as server:
        print(*server.addresses, flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5900))
    except KeyboardInterrupt:
        pass
