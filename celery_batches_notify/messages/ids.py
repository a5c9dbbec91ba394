"""Random ids, many at once. Pure: no I/O."""

from __future__ import annotations

import os

_VERSION_4 = bytes(byte & 0x0F | 0x40 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))


def new_ids(number: int) -> list[str]:
    """Return random UUIDs, from one read of the kernel's randomness."""
    raw = bytearray(os.urandom(16 * number))
    raw[6::16] = raw[6::16].translate(_VERSION_4)
    raw[8::16] = raw[8::16].translate(_VARIANT)
    text = bytearray(raw.hex("-", 2), "ascii")  # eight groups of four letters, so three hyphens too many
    del text[34::40], text[29::39], text[4::38]
    text[36::37] = b" " * (number - 1)
    return text.decode().split()
