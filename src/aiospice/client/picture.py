"""A picture of the screen, apart from the session that it was taken from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Picture"]


class Picture:
    """``width`` x ``height`` pixels; nothing changes them any more."""

    __slots__ = ("bgrx", "height", "width")

    def __init__(self, width: int, height: int, bgrx: bytes) -> None:
        if len(bgrx) != 4 * width * height:
            raise ValueError(f"{len(bgrx)} bytes are not {width}x{height} pixels of 4")
        self.width = width
        self.height = height
        #: Rows, top first, with nothing between them; four bytes a pixel: blue, green, red, unused.
        self.bgrx = bgrx

    def rgb(self) -> bytes:
        """Three bytes a pixel, red, green, blue; rows top first with nothing between them."""
        rgb = bytearray(3 * self.width * self.height)
        rgb[0::3] = self.bgrx[2::4]
        rgb[1::3] = self.bgrx[1::4]
        rgb[2::3] = self.bgrx[0::4]
        return bytes(rgb)

    def array(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The picture as a NumPy array, uint8, height x width x 3 (red, green, blue)."""
        import numpy as np

        pixels = np.frombuffer(self.bgrx, dtype=np.uint8).reshape(self.height, self.width, 4)
        return np.ascontiguousarray(pixels[:, :, 2::-1])

    def __eq__(self, other: object) -> bool:
        """Same size and same colours; the unused byte doesn't count."""
        if not isinstance(other, Picture):
            return NotImplemented
        return (self.width, self.height) == (other.width, other.height) and all(
            self.bgrx[plane::4] == other.bgrx[plane::4] for plane in range(3)
        )

    def __hash__(self) -> int:
        return hash((self.width, self.height, self.bgrx[0::4]))

    def __repr__(self) -> str:
        return f"Picture({self.width}x{self.height})"
