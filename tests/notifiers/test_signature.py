"""Standard Webhooks: both libraries agree, and changed or old webhooks are refused."""

from __future__ import annotations

import base64
import json
import secrets as randoms
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Reference

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.notifiers.signature import (
    InvalidSignature,
    decode_secret,
    new_secret,
    sign,
    verify,
)

# The vector that the specification's own libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def headers(**changes: Any) -> dict[str, str]:
    given = {"id": ID, "timestamp": str(AT), "signature": SIGNATURE} | changes
    return {f"webhook-{name}": value for name, value in given.items() if value is not None}


def refuses(
    match: str, body: bytes | str = BODY, given: dict[str, str] | None = None, **options: Any
) -> None:
    with pytest.raises(InvalidSignature, match=match):
        verify(body, headers() if given is None else given, SECRET, **{"now": AT, **options})


def test_it_signs_the_specifications_vector() -> None:
    assert sign(BODY, SECRET, webhook_id=ID, timestamp=AT) == SIGNATURE


def test_it_verifies_the_specifications_vector() -> None:
    assert verify(BODY, headers(), SECRET, now=AT) == {"test": 2432232314}
    assert verify(BODY.decode(), headers(), SECRET, now=AT) == {"test": 2432232314}


def test_the_case_of_header_names_does_not_matter() -> None:
    assert verify(BODY, {name.title(): value for name, value in headers().items()}, SECRET, now=AT)


@given(body=st.binary(max_size=200), key=st.binary(min_size=24, max_size=64))
def test_the_reference_library_signs_the_same(body: bytes, key: bytes) -> None:
    text = body.decode("utf-8", "replace")
    secret = "whsec_" + base64.b64encode(key).decode()
    theirs = Reference(secret).sign(ID, datetime.fromtimestamp(AT, UTC), text)
    assert sign(text.encode(), secret, webhook_id=ID, timestamp=AT) == theirs


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_of_the_body_passes(bit: int) -> None:
    for position in range(len(BODY)):
        flipped = bytearray(BODY)
        flipped[position] ^= 1 << bit
        refuses("no signature fits", bytes(flipped))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_of_a_header_passes(name: str, bit: int) -> None:
    good = headers()[name].encode()
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 1 << bit
        refuses(None, given=headers() | {name: flipped.decode("latin-1")}, tolerance_seconds=float("inf"))


def test_ten_thousand_flips_of_a_large_body_are_refused() -> None:
    body = json.dumps({"filler": "x" * 10_000}).encode()
    good = headers(signature=sign(body, SECRET, webhook_id=ID, timestamp=AT))
    for _ in range(10_000):
        flipped = bytearray(body)
        flipped[randoms.randbelow(len(body))] ^= 1 << randoms.randbelow(8)
        refuses("no signature fits", bytes(flipped), good)


@pytest.mark.parametrize("now", [AT - 301, AT + 301, AT + 300.5, AT + 86_400])
def test_a_replay_is_refused(now: float) -> None:
    refuses("more than 300 s away", now=now)


@pytest.mark.parametrize("now", [AT - 300, AT, AT + 300])
def test_up_to_the_tolerance_it_passes(now: float) -> None:
    assert verify(BODY, headers(), SECRET, now=now)


def test_the_clock_is_the_systems_unless_given() -> None:
    with pytest.raises(InvalidSignature, match="more than 300 s away"):
        verify(BODY, headers(), SECRET)


@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_a_missing_header_is_named(name: str) -> None:
    refuses(f"no webhook-{name} header", given=headers(**{name: None}))


@pytest.mark.parametrize(
    "timestamp", ["", "soon", "-1", "1e9", "1614265330.0", " 1614265330", "٣", "9" * 5000]
)
def test_a_timestamp_that_is_no_number_is_refused(timestamp: str) -> None:
    refuses("not a number", given=headers(timestamp=timestamp))


@pytest.mark.parametrize(
    "change",
    [
        lambda signature: "",
        lambda signature: "v1,",
        lambda signature: signature.removeprefix("v1,"),
        lambda signature: signature.replace("v1,", "v1a,"),
        lambda signature: signature.replace("v1,", "v2,"),
        lambda signature: signature.rstrip("="),
        lambda signature: signature.upper(),
        lambda signature: signature.replace("+", "-").replace("/", "_"),
        lambda signature: "é\ud800",
        lambda signature: " " * 60_000,
    ],
)
def test_a_signature_in_any_other_form_is_refused(change: Callable[[str], str]) -> None:
    refuses("no signature fits", given=headers(signature=change(SIGNATURE)))


def test_while_keys_are_changed_either_side_may_be_first() -> None:
    both = sign(BODY, [OTHER, SECRET], webhook_id=ID, timestamp=AT)
    assert both.split()[1] == SIGNATURE
    assert verify(BODY, headers(signature=both), SECRET, now=AT)  # the sender knows the new one already
    assert verify(BODY, headers(), [OTHER, SECRET], now=AT)  # the receiver does
    with pytest.raises(InvalidSignature):
        verify(BODY, headers(), OTHER, now=AT)


def test_foreign_signatures_beside_ours_do_not_disturb() -> None:
    given = f"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw {SIGNATURE} v2,x"
    assert verify(BODY, headers(signature=given), SECRET, now=AT)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"text"', b"{", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused_though_signed(body: bytes) -> None:
    refuses("not a JSON object", body, headers(signature=sign(body, SECRET, webhook_id=ID, timestamp=AT)))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "plain words",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "WHSEC_" + base64.b64encode(bytes(32)).decode(),
        " " + SECRET,
        None,
        42,
    ],
)
def test_a_malformed_secret_is_refused_with_the_fix_and_not_repeated(secret: Any) -> None:
    with pytest.raises(ValueError, match="new_secret") as caught:
        decode_secret(secret)
    assert not secret or str(secret).strip() not in str(caught.value).replace(
        "a secret must be whsec_ and", ""
    )


def test_no_secrets_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        verify(BODY, headers(), [])


def test_an_unpadded_secret_is_taken_as_the_reference_takes_it() -> None:
    assert decode_secret(OTHER.rstrip("=")) == bytes(range(32))


def test_a_new_secret_is_good_and_new() -> None:
    assert len(decode_secret(new_secret())) == 32
    assert new_secret() != new_secret()


def test_its_error_is_one_of_ours() -> None:
    assert issubclass(InvalidSignature, BatchesError)
