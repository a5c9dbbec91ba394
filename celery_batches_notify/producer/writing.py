"""Writing many messages of py-amqp at once: the broker pays for each packet as much as for its message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from amqp.method_framing import frame_writer

from celery_batches_notify.messages.celerys_own import is_from

AT_LEAST_BYTES = 60_000


@contextmanager
def writing_together(channel: Any) -> Iterator[None]:
    """Write what a channel sends in a `with` block in few pieces, the last one at its end.

    If the block raises, the rest is written too while the connection stands, because the broker may wait for
    an answer that is in it.
    """
    connection = channel.connection
    theirs = getattr(connection, "frame_writer", None)
    if not is_from("amqp.method_framing", theirs):
        yield
        return
    gathered = _Gathered(connection.transport)
    connection.frame_writer = frame_writer(connection, gathered)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            gathered.flush_if_connected()
        raise
    finally:
        connection.frame_writer = theirs  # safety: writer-restored
    gathered.flush()  # safety: gathered-written


class _Gathered:
    """Stands for py-amqp's transport, and keeps what is written until it is worth a system call."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, part: Any) -> None:
        """Keep a part until `flush`. It lies in a buffer that the next one overwrites."""
        self._parts.append(bytes(part))
        self._size += len(part)
        if self._size >= AT_LEAST_BYTES:
            self.flush()

    def flush_if_connected(self) -> None:
        """Write the parts that are kept, unless the connection is lost."""
        if self._transport.connected:
            self.flush()

    def flush(self) -> None:
        """Write the parts that are kept."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts:
            self._transport.write(b"".join(parts))
