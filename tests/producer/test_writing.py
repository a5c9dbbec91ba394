"""What py-amqp writes is gathered and written in few pieces, and nothing of it is lost or stays behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp.method_framing import frame_writer

from celery_batches_notify.producer.writing import AT_LEAST_BYTES, writing_together

PUBLISH = (60, 40)


class Transport:
    """Takes what is written."""

    connected = True

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: Any) -> None:
        self.pieces.append(bytes(piece))


@pytest.fixture
def channel() -> Any:
    transport = Transport()
    connection = SimpleNamespace(frame_max=131_072, transport=transport, bytes_sent=0)
    connection.frame_writer = frame_writer(connection, transport)
    return SimpleNamespace(connection=connection)


def _publish(channel: Any, body: bytes) -> None:
    message = amqp.Message(body, application_headers={"id": "a", "n": None}, correlation_id="a")
    channel.connection.frame_writer(1, 1, PUBLISH, b"\0\0\0\6celery\0", message)


def _pieces(channel: Any) -> list[bytes]:
    return channel.connection.transport.pieces


BODIES = [b"", b"a", b"b" * 5000, b"c" * 300_000, b"d", b"e" * AT_LEAST_BYTES, b"f"]


def test_gathered_messages_are_written_as_each_would_be(channel: Any) -> None:
    for body in BODIES:
        _publish(channel, body)
    alone = b"".join(_pieces(channel))
    _pieces(channel).clear()
    with writing_together(channel):
        for body in BODIES:
            _publish(channel, body)
    assert b"".join(_pieces(channel)) == alone


def test_a_hundred_small_messages_take_few_writes(channel: Any) -> None:
    with writing_together(channel):
        for _ in range(100):
            _publish(channel, b"x" * 900)
    assert len(_pieces(channel)) == 2


def test_after_a_block_each_message_is_written_at_once(channel: Any) -> None:
    own = channel.connection.frame_writer
    with writing_together(channel):
        _publish(channel, b"a")
    with pytest.raises(KeyError), writing_together(channel):
        raise KeyError
    assert channel.connection.frame_writer is own


def test_a_block_that_raises_writes_the_rest(channel: Any) -> None:
    with pytest.raises(KeyError), writing_together(channel):
        _publish(channel, b"answer")
        raise KeyError
    assert len(_pieces(channel)) == 1


def test_a_block_that_lost_its_connection_raises_its_own_error(channel: Any) -> None:
    transport = channel.connection.transport

    def lose() -> None:
        transport.connected = False
        raise ConnectionResetError("lost")

    with pytest.raises(ConnectionResetError, match="lost"), writing_together(channel):
        _publish(channel, b"a")
        lose()
    assert _pieces(channel) == []


def test_what_cannot_be_written_at_the_end_raises(channel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise ConnectionResetError("lost")

    monkeypatch.setattr(channel.connection.transport, "write", fail)
    own = channel.connection.frame_writer
    with pytest.raises(ConnectionResetError, match="lost"), writing_together(channel):
        _publish(channel, b"a")
    with pytest.raises(KeyError), writing_together(channel):
        _publish(channel, b"a")
        raise KeyError
    assert channel.connection.frame_writer is own


def test_somebody_elses_writer_writes_each_message_at_once(channel: Any) -> None:
    def own(*_: Any) -> None:
        channel.connection.transport.write(b"own")

    channel.connection.frame_writer = own
    with writing_together(channel):
        _publish(channel, b"a")
        assert _pieces(channel) == [b"own"]


def test_a_channel_of_another_library_is_left_alone() -> None:
    with writing_together(SimpleNamespace(connection=object())):
        pass
