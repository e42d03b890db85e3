"""Small pictures as PNG data, for a page that loads nothing. Written here: no library that harness needs writes PNG."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_FEWEST_PIXELS = 168
"""Smaller pictures are enlarged by repeating pixels: a browser would blur them."""
_COLOURS = np.array([[33, 102, 172], [247, 247, 247], [178, 24, 43]], float)
"""Blue, white, red of ColorBrewer's RdBu, which people with red-green blindness tell apart."""


def picture(image: NDArray[np.uint8]) -> str:
    """Return an image (height, width, 1 or 3) as a data URI."""
    times = max(1, -(-_FEWEST_PIXELS // max(image.shape[:2])))
    colour = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    png = _png(colour.repeat(times, axis=0).repeat(times, axis=1))
    return "data:image/png;base64," + base64.b64encode(png).decode()


def heat_map(values: NDArray[np.float64], largest: float) -> str:
    """Return values from `-largest` (blue) over 0 (white) to `largest` (red) as a data URI."""
    places = np.clip(values / largest, -1, 1) + 1 if largest else np.ones_like(values)
    channels = [np.interp(places, (0, 1, 2), _COLOURS[:, channel]) for channel in range(3)]
    return picture(np.rint(np.stack(channels, axis=2)).astype(np.uint8))


def _png(image: NDArray[np.uint8]) -> bytes:
    """Encode 8-bit RGB, after https://www.w3.org/TR/png-3/ of the W3C."""
    height, width = image.shape[:2]
    lines = b"".join(b"\0" + line.tobytes() for line in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
