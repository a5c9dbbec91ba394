"""Running a function in a fork's child."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


def in_fork(do: Callable[[], object]) -> str:
    """Return what a function returns in a fork's child, as text; "" if it raises."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        with suppress(BaseException):
            os.write(writing, str(do()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        answer = said.read()
    os.waitpid(child, 0)
    return answer
