"""Random ids, many at once. Pure: no I/O."""

from __future__ import annotations

import os


def new_ids(number: int) -> list[str]:
    """Return random UUIDs, from one read of the kernel's randomness."""
    raw = bytearray(os.urandom(16 * number))
    raw[6::16] = bytes(byte & 0x0F | 0x40 for byte in raw[6::16])
    raw[8::16] = bytes(byte & 0x3F | 0x80 for byte in raw[8::16])
    text = raw.hex()
    each = (text[at : at + 32] for at in range(0, 32 * number, 32))
    return [f"{x[:8]}-{x[8:12]}-{x[12:16]}-{x[16:20]}-{x[20:]}" for x in each]
