# cython: language_level=3, annotation_typing=False
"""The short way of a frame to a client that has everything: no queue, nothing put off.

Most frames are a few small drawings for a client that keeps up. Their messages are made as they
would be made from the queue of `aiospice.server.held.Held`, in the same order, by fewer steps.
What can't leave so goes that way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.server.choose import GLZ, ZLIB_GLZ
from aiospice.server.encode import Picture, cost
from aiospice.server.operations import Copy, Fill

if TYPE_CHECKING:
    from aiospice.server.held import Held
    from aiospice.server.operations import Operation

__all__ = ["send_at_once"]


def send_at_once(held: Held, operations: list[Operation]) -> int:
    """Send what can be, while there is room for it; gives how many operations it were."""
    for count, operation in enumerate(operations):
        if isinstance(operation, Picture):
            if not _send_picture(held, operation):
                return count
        elif isinstance(operation, (Fill, Copy)) and operation.surface in held.planes:
            held._send_draw(operation)
        else:
            return count
        if not held._room():
            return count + 1
    return len(operations)


def _send_picture(held: Held, picture: Picture) -> bool:
    """Send an image that is named or packed quickly; False for another one."""
    plane = held.planes.get(picture.surface)
    if plane is None:
        return False
    key = held._key(picture)
    if held.images.use(key):
        held._send_kept(picture, key)
        plane.sharpen(picture.box)
        return True
    method = held._method(picture, exact=False)
    if method.type in (GLZ, ZLIB_GLZ):
        if held._inline <= 0:
            return False
        held._inline -= cost(method, picture.size)
        held._send_glz(picture, method)
        plane.sharpen(picture.box)
        return True
    form = picture.forms.get(method)
    if form is None:
        if method in picture.forms or not held._at_once(picture, method):
            return False
        form = held._packed_now(picture, method)
    held._send_image(picture, key, form)
    held._shown_as(picture, plane, form)
    held.line.sent(held.channel, held._now)
    return True
