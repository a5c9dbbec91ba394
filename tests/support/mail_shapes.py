"""Hostile addresses and headers, and the shape of the mail that must come of them."""

from __future__ import annotations

from email.message import EmailMessage

INJECTIONS = (
    "x\nBcc: evil@evil.test",
    "x\r\nBcc: evil@evil.test",
    "x\rBcc: evil@evil.test",
    "x\r\n\r\n<h1>another body</h1>",
    "x\n\nanother body",
    "x\r\n Bcc: evil@evil.test",
    "x\n\tBcc: evil@evil.test",
    "\nBcc: evil@evil.test",
    "x\n",
    "x\x00Bcc: evil@evil.test",
    "x\x0bBcc: evil@evil.test",
    "x\x0cBcc: evil@evil.test",
    "x\x1cBcc: evil@evil.test",
    "x\x1eBcc: evil@evil.test",
    "x\x85Bcc: evil@evil.test",
    "x\u2028Bcc: evil@evil.test",
    "x\u2029Bcc: evil@evil.test",
    "x\ud83d\nBcc: evil@evil.test",
    "x\ud83d half a pair",
    "=?UTF-8?Q?=0A?=Bcc: evil@evil.test",
    "x =?UTF-8?Q?=0A?=Bcc: evil@evil.test",
    "x =?UTF-8?Q?=0D=0ABcc:_evil@evil.test?=",
    "x =?UTF-8?B?DQpCY2M6IGV2aWxAZXZpbC50ZXN0?=",
    "=?utf-8?q?=0A?= =?utf-8?q?Bcc=3A_evil=40evil.test?=",
    "x =?ISO-8859-1?Q?=0D?=Bcc: evil@evil.test",
    "x =?utf-16?B?DQAKAEIAYwBjADoA?=",
    "é =?UTF-8?Q?=0A?=Bcc: evil@evil.test",
    "x =?UTF-8?Q?=0A?=",
    '" =?UTF-8?Q?=0A?= "',
    "x\\\nBcc: evil@evil.test",
    "x%0ABcc: evil@evil.test",
    "x%0D%0A%0D%0Abody",
    "x\\r\\nBcc: evil@evil.test",
    "x\u200b\nBcc: evil@evil.test",
    "\u560a\u560dBcc: evil@evil.test",
    "x" * 2000,
    "é" * 2000,
    "x " * 1000,
)


ADDRESS_TRICKS = (
    "<evil@evil.test>",
    "x, evil@evil.test",
    "x <evil@evil.test>",
    '"x" <evil@evil.test>',
    "x; evil@evil.test",
    "x:evil@evil.test;",
    "x (evil@evil.test)",
)


def shape(message: EmailMessage) -> object:
    if message.is_multipart():
        return {message.get_content_subtype(): [shape(part) for part in message.iter_parts()]}
    return message.get_content_type()
