"""Reduce pictures of text to a third of their size, because 256 colours are enough for them."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS, EXACT = 256, 96


def shrink(png: bytes) -> bytes:
    """Return an RGB picture from a browser with its frequent colours, and others replaced by near ones."""
    chunks = dict(_read_chunks(png))
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    data = b"".join(content for name, content in _read_chunks(png) if name == b"IDAT")
    rows = list(_unfilter(zlib.decompress(data), 3 * width, height))
    pixels = [[bytes(row[at : at + 3]) for at in range(0, 3 * width, 3)] for row in rows]
    counts = Counter(p for row in pixels for p in row)
    exact = [colour for colour, _ in counts.most_common(EXACT)]
    rough = Counter(bytes(value & 0xF0 | 8 for value in colour) for colour in counts.keys() - set(exact))
    palette = exact + [colour for colour, _ in rough.most_common(COLOURS - EXACT)]
    index = {colour: n for n, colour in enumerate(palette)}
    for colour in {p for row in pixels for p in row} - index.keys():
        index[colour] = min(range(len(palette)), key=lambda n: _distance(palette[n], colour))
    packed = b"".join(b"\0" + bytes(index[p] for p in row) for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours, image = b"".join(palette), zlib.compress(packed, 9)
    parts = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", image), (b"IEND", b""))
    return SIGNATURE + b"".join(map(_chunk, parts))


def _read_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        yield name, png[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    name, content = part
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unfilter(data: bytes, length: int, height: int) -> Iterator[bytearray]:
    above = bytearray(length)
    for n in range(height):
        start = n * (length + 1)
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + length])
        for i in range(length):
            left, corner = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            up = above[i]
            guess = (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]
            row[i] = (row[i] + guess) & 255
        yield row
        above = row


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
