"""`via_options`: Pony's names and defaults, and clear errors for wrong values."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from celery_batches_notify.notifiers.mailer.options import read_sendmail_options, read_smtp_options

LOGIN = {"user_name": "me", "password": "SENTINEL"}


def test_the_defaults_are_ponys_but_for_the_patience_after_the_greeting() -> None:
    options = read_smtp_options({})

    assert (options.address, options.port, options.domain) == ("localhost", 25, "localhost.localdomain")
    assert options.starttls == "auto" and not options.logs_in
    assert (options.open_timeout, options.read_timeout, options.total_timeout) == (5, 30, 60)


def test_none_means_the_default() -> None:
    names = (
        "address port domain user_name password authentication ssl tls enable_starttls ca_file read_timeout"
    )

    assert read_smtp_options(dict.fromkeys(names.split())) == read_smtp_options({})


def test_the_specifications_example_is_understood() -> None:
    options = read_smtp_options(
        {
            "address": "smtp.example.com",
            "port": "25",
            "user_name": "user",
            "password": "password",
            "authentication": "plain",
            "domain": "localhost.localdomain",
        }
    )

    assert options.port == 25 and options.authentication == "plain" and options.logs_in


@pytest.mark.parametrize(
    ("given", "starttls", "port"),
    [
        ({"enable_starttls": True}, "required", 25),
        ({"enable_starttls": "always"}, "required", 25),
        ({"enable_starttls": "auto"}, "auto", 25),
        ({"enable_starttls": False}, "off", 25),
        ({"enable_starttls_auto": True}, "auto", 25),
        ({"enable_starttls_auto": False}, "off", 25),
        ({"ssl": True}, "implicit", 465),
        ({"tls": True, "port": 2465}, "implicit", 2465),
        ({"ssl": True, "enable_starttls_auto": False}, "implicit", 465),
        ({"ssl": False, "port": 587}, "auto", 587),
    ],
)
def test_tls_is_said_in_ponys_words(given: dict[str, Any], starttls: str, port: int) -> None:
    options = read_smtp_options(given)

    assert (options.starttls, options.port) == (starttls, port)


def test_timeouts_are_seconds_or_timedeltas() -> None:
    options = read_smtp_options(
        {"open_timeout": 1, "read_timeout": timedelta(minutes=2), "total_timeout": 2.5}
    )

    assert (options.open_timeout, options.read_timeout, options.total_timeout) == (1, 120, 2.5)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_known_by_its_addresses(address: str) -> None:
    assert read_smtp_options({"address": address}).is_loopback
    assert not read_smtp_options({"address": "localhost.example.com"}).is_loopback


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "x"}, "address"),
        ({"openssl_verify_mode": "none"}, "ca_file"),
        ({"openssl_verify_mode": False}, "ca_file"),
        ({"openssl_verify_mode": 0}, "ca_file"),
        ({"port": "smtp"}, "port"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"port": True}, "port"),
        ({"port": "²"}, "port"),
        ({"address": "a b"}, "address"),
        ({"address": ""}, "address"),
        ({"address": "a\nb"}, "address"),
        ({"domain": "x\r\nMAIL FROM:<evil@x>"}, "domain"),
        ({"user_name": 5, "password": "x"}, "user_name"),
        ({"ssl": "yes"}, "ssl"),
        ({"enable_starttls": "yes"}, "enable_starttls"),
        ({"enable_starttls": 1}, "enable_starttls"),
        ({"enable_starttls": True, "enable_starttls_auto": False}, "contradict"),
        ({"ssl": True, "enable_starttls": True}, "exclude each other"),
        ({"tls": True, "enable_starttls_auto": True}, "exclude each other"),
        ({"authentication": "ntlm", **LOGIN}, "plain, login, cram_md5, none"),
        ({"authentication": "plain"}, "needs user_name and password"),
        ({"user_name": "me"}, "go together"),
        ({"password": "SENTINEL"}, "go together"),
        ({"oauth2_file": "x.json", **LOGIN}, "by itself"),
        ({"open_timeout": 0}, "open_timeout"),
        ({"read_timeout": -1}, "read_timeout"),
        ({"read_timeout": "soon"}, "read_timeout"),
        ({"total_timeout": float("nan")}, "total_timeout"),
    ],
)
def test_wrong_options_are_refused_with_the_fix(given: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(said)) as caught:
        read_smtp_options(given)

    assert "SENTINEL" not in str(caught.value)


def test_sendmails_arguments_are_words_or_a_line_of_them() -> None:
    assert read_sendmail_options({}).arguments == ("-i",)
    assert read_sendmail_options({"arguments": "-i -O 'a b'"}).arguments == ("-i", "-O", "a b")
    assert read_sendmail_options({"arguments": ["-i", "a b"]}).arguments == ("-i", "a b")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"location": "sendmail"}, "absolute path"),
        ({"location": 5}, "absolute path"),
        ({"arguments": "-i -t"}, "command line"),
        ({"arguments": [5]}, "arguments"),
        ({"port": 25}, "location"),
        ({"total_timeout": 0}, "total_timeout"),
    ],
)
def test_sendmail_options_that_cannot_be_meant_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        read_sendmail_options(given)
