"""All members of a batch as a picture, a strip and words. Pure: it sees the packed states only.

The store packs four members into a byte, the first in the highest bits. So does a PNG with a palette of four
colours: the states are its pixels, and a million members take a millisecond.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTHS = (40, 200, 400, 1000)
BUCKETS = 1000
CLUSTER_BUCKETS = 200
NAMED_AT_MOST = 5  # so many members are named one by one
CLUSTER_WIDTH = 0.1  # most of them in a tenth of the batch are worth a word
SAMPLE = 64
_ALIKE = b"\x00\xff"  # four waiting members, and four that succeeded

WAITING, FAILING, DEAD, SUCCEEDED, BLANK = range(5)
Colours = Sequence[str]  # of the four states, as `#rrggbb`


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """How many of the members from index `first` on are in each state."""

    first: int
    counts: tuple[int, int, int, int]


def size_of(total: int) -> tuple[int, int]:
    """Return the width and the height of the map of so many members, in pixels: no taller than wide."""
    width = next((w for w in WIDTHS if total <= w * w), WIDTHS[-1])  # taller ones would be squeezed
    return width, max(1, -(-total // width))


def draw_map(states: bytes, total: int, colours: Colours) -> bytes:
    """Return the PNG that shows member `i` as pixel `i`, line by line; those behind the last are clear.

    Args:
        states: Two bits per member; what is missing at the end is waiting.
        total: How many members there are.
        colours: Those of the four states.
    """
    width, height = size_of(total)
    is_full = width * height == total
    depth = 2 if is_full else 4  # two bits have no fifth value for "no member"
    line = width * depth // 8
    pixels = _cut(states, total)
    if not is_full:
        pixels = _blank(_widen(pixels), total).ljust(line * height, bytes([BLANK << 4 | BLANK]))
    rows = b"".join(b"\0" + pixels[at : at + line] for at in range(0, height * line, line))
    palette = bytes.fromhex("".join(c.lstrip("#") for c in colours) + ("" if is_full else "000000"))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette),
            b"" if is_full else _chunk(b"tRNS", b"\xff\xff\xff\xff\0"),
            _chunk(b"IDAT", zlib.compress(rows, 1)),
            _chunk(b"IEND", b""),
        ]
    )


def count_buckets(states: bytes, total: int, buckets: int = BUCKETS) -> list[Bucket]:
    """Count the states in equal stretches of a batch, at most so many of them."""
    packed = _cut(states, total)
    size = max(1, -(-len(packed) // buckets))
    return [
        Bucket(first=at * 4, counts=_count(packed[at : at + size], min(size * 4, total - at * 4)))
        for at in range(0, len(packed), size)
    ]


def find_members(states: bytes, total: int, state: int, *, first: int = 0, most: int = 1000) -> list[int]:
    """Return the indexes of the members in a state, from index `first` on, at most so many."""
    packed, holds = _cut(states, total), _HOLDS[state]
    found: list[int] = []
    at = first // 4
    while at < len(packed) and len(found) < most:
        if (hit := holds.search(packed, at)) is None:
            break
        at = hit.start()
        four = range(at * 4, min(at * 4 + 4, total))
        found += [i for i in four if i >= first and packed[at] >> (6 - i % 4 * 2) & 3 == state]
        at += 1
    return found[:most]


def select_members(states: bytes, indexes: Iterable[int], state: int) -> frozenset[int]:
    """Return those of these members that are in a state."""
    return frozenset(
        i for i in indexes if i // 4 < len(states) and states[i // 4] >> (6 - i % 4 * 2) & 3 == state
    )


def describe_clusters(
    states: bytes, total: int, state: int, name: str, buckets: Sequence[Bucket] = ()
) -> str:
    """Say where the members in a state are: `dead: 312; 280 of them in #41,000–#41,299`; empty if none is.

    Args:
        states: Two bits per member.
        total: How many members there are.
        state: The state.
        name: What it is called.
        buckets: What `count_buckets` found, if it was asked already.
    """
    buckets = buckets or count_buckets(states, total, CLUSTER_BUCKETS)
    counts = [bucket.counts[state] for bucket in buckets]
    all_of_them = sum(counts)
    if not all_of_them:
        return ""
    if all_of_them <= NAMED_AT_MOST:
        members = find_members(states, total, state, most=NAMED_AT_MOST)
        return f"{name}: {', '.join(f'#{index:,}' for index in members)}"
    low, high = _densest(counts, -(-all_of_them * 3 // 4))
    span = buckets[high].first - buckets[low].first
    if len(buckets) > 1 and span > CLUSTER_WIDTH * total:
        return f"{name}: {all_of_them:,}, spread over the batch"
    ends = [*(bucket.first for bucket in buckets), total]
    first = _find_between(states, state, ends[low], ends[low + 1])[0]
    last = _find_between(states, state, ends[high], ends[high + 1])[-1]
    inside = sum(counts[low : high + 1])
    where = f"#{first:,}–#{last:,}"
    if inside == all_of_them:
        return f"{name}: {all_of_them:,}, all of them in {where}"
    return f"{name}: {all_of_them:,}; {inside:,} of them in {where}"


def _find_between(states: bytes, state: int, first: int, end: int) -> list[int]:
    """Return the indexes of members in a state from `first`, a multiple of four, to before `end`."""
    part = states[first // 4 : -(-end // 4)]
    return [first + index for index in find_members(part, end - first, state, most=end - first)]


def _densest(counts: Sequence[int], wanted: int) -> tuple[int, int]:
    """Return the shortest stretch of buckets that holds so many members."""
    best, low, inside = (0, len(counts) - 1), 0, 0
    for high, count in enumerate(counts):
        inside += count
        while inside - counts[low] >= wanted:
            inside -= counts[low]
            low += 1
        if inside >= wanted and high - low < best[1] - best[0]:
            best = low, high
    return best


def _count(packed: bytes, members: int) -> tuple[int, int, int, int]:
    """Count the states in a stretch: first the bytes that most stretches consist of, then the others."""
    alike = len(packed[:SAMPLE].translate(None, _ALIKE)) < SAMPLE // 4
    mixed = packed.translate(None, _ALIKE) if alike else packed
    low_bits = int.from_bytes(b"\x55" * len(mixed), "big")
    bits = int.from_bytes(mixed, "big")
    high, low = bits >> 1 & low_bits, bits & low_bits
    both = (high & low).bit_count()
    failing, dead = low.bit_count() - both, high.bit_count() - both
    succeeded = both + (4 * packed.count(_ALIKE[-1:]) if alike else 0)
    return members - failing - dead - succeeded, failing, dead, succeeded


def _cut(states: bytes, total: int) -> bytes:
    """Return the states of so many members: the bits behind the last are zero."""
    size = -(-total // 4)
    packed = states[:size].ljust(size, b"\0")
    spare = size * 4 - total
    return packed[:-1] + bytes([packed[-1] >> spare * 2 << spare * 2]) if spare else packed


def _widen(packed: bytes) -> bytes:
    """Return four bits per member instead of two."""
    wide = bytearray(2 * len(packed))
    wide[0::2] = packed.translate(_FIRST_TWO)
    wide[1::2] = packed.translate(_LAST_TWO)
    return bytes(wide)


def _blank(wide: bytes, total: int) -> bytes:
    """Cut off what is behind the last member, and blank the half of a byte that is."""
    size = -(-total // 2)
    return wide[: size - 1] + bytes([wide[size - 1] & 0xF0 | BLANK]) if total % 2 else wide[:size]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_FIRST_TWO = bytes((byte >> 6) << 4 | byte >> 4 & 3 for byte in range(256))
_LAST_TWO = bytes((byte >> 2 & 3) << 4 | byte & 3 for byte in range(256))
_HOLDS = [
    re.compile(
        b"["
        + b"".join(
            re.escape(bytes([byte])) for byte in range(256) if state in {byte >> s & 3 for s in (0, 2, 4, 6)}
        )
        + b"]"
    )
    for state in range(4)
]
