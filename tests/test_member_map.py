"""The picture, the strip and the words of all members of a batch."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify.member_map import (
    BLANK,
    DEAD,
    SUCCEEDED,
    WAITING,
    count_buckets,
    describe_clusters,
    draw_map,
    find_members,
    size_of,
)

COLOURS = ("#d5dbe1", "#8f5f00", "#4d0710", "#3fa46a")


def pack(states: list[int]) -> bytes:
    padded = states + [0] * (-len(states) % 4)
    return bytes(a << 6 | b << 4 | c << 2 | d for a, b, c, d in zip(*[iter(padded)] * 4, strict=True))


def read_png(png: bytes) -> tuple[int, int, list[int]]:
    """Return the width, the height and the palette index of each pixel of a PNG of ours."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + data),)
        chunks[kind] = data
        at += 12 + size
    width, height, depth, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert chunks[b"PLTE"][:12] == bytes.fromhex("".join(colour[1:] for colour in COLOURS))
    rows, line = zlib.decompress(chunks[b"IDAT"]), width * depth // 8 + 1
    pixels = []
    for y in range(height):
        assert rows[y * line] == 0
        for byte in rows[y * line + 1 : (y + 1) * line]:
            pixels += [byte >> shift & (1 << depth) - 1 for shift in range(8 - depth, -1, -depth)]
    return width, height, pixels


@pytest.mark.parametrize("total", [1, 3, 4, 40, 41, 999, 40_000, 123_457, 999_998, 1_000_000])
def test_a_pixel_has_the_colour_of_its_members_state(total: int) -> None:
    states = random.Random(total).choices(range(4), k=total)
    width, height, pixels = read_png(draw_map(pack(states) + b"\xff", total, COLOURS))
    assert (width, height) == size_of(total)
    assert pixels[:total] == states
    assert set(pixels[total:]) <= {BLANK}


def test_a_member_that_the_store_has_no_bits_for_is_waiting() -> None:
    assert read_png(draw_map(b"\xff", 40, COLOURS))[2] == [SUCCEEDED] * 4 + [WAITING] * 36


@given(states=st.lists(st.sampled_from(range(4)), min_size=1, max_size=300), buckets=st.integers(1, 50))
def test_every_member_is_counted_in_one_bucket(states: list[int], buckets: int) -> None:
    found = count_buckets(pack(states) + b"\xff", len(states), buckets)
    assert len(found) <= buckets
    firsts = [bucket.first for bucket in found]
    for bucket, end in zip(found, [*firsts[1:], len(states)], strict=True):
        assert bucket.counts == tuple(states[bucket.first : end].count(state) for state in range(4))


@pytest.mark.parametrize("others", [0, 1, 40, 2_000], ids=["alike", "one", "some", "mixed"])
@pytest.mark.parametrize("most", [WAITING, SUCCEEDED])
def test_long_stretches_are_counted_too(most: int, others: int) -> None:
    states = [most] * 4_000
    for index in random.Random(others).sample(range(4_000), others):
        states[index] = random.Random(index).randrange(4)
    (found,) = count_buckets(pack(states), len(states), 1)
    assert found.counts == tuple(states.count(state) for state in range(4))


@given(states=st.lists(st.sampled_from(range(4)), max_size=60), first=st.integers(0, 70))
def test_members_are_found_by_their_state(states: list[int], first: int) -> None:
    expected = [index for index, state in enumerate(states) if state == DEAD and index >= first]
    assert find_members(pack(states), len(states), DEAD, first=first, most=7) == expected[:7]


@pytest.mark.parametrize(
    ("total", "dead", "words"),
    [
        (1_000_000, [], ""),
        (1_000_000, [777_777], "dead: #777,777"),
        (999_999, [0, 5, 999_998], "dead: #0, #5, #999,998"),
        (100_000, range(41_000, 41_280), "dead: 280, all of them in #41,000–#41,279"),
        (
            100_000,
            [*range(41_001, 41_281), *range(0, 96_000, 3_000)],
            "dead: 312; 280 of them in #41,001–#41,280",
        ),
        (100_000, range(0, 100_000, 10), "dead: 10,000, spread over the batch"),
        (8, range(1, 8), "dead: 7, spread over the batch"),
        (1_000_000, range(999_900, 1_000_000), "dead: 100, all of them in #999,900–#999,999"),
    ],
)
def test_clusters_are_said_in_words(total: int, dead: range, words: str) -> None:
    states = [SUCCEEDED] * total
    for index in dead:
        states[index] = DEAD
    assert describe_clusters(pack(states), total, DEAD, "dead") == words
