"""HTTP/1.1 read a second time, strictly by RFC 9112's grammar and by other means than the codecs: regular
expressions over the whole text, nothing incremental, no llhttp (`by_llhttp` apart). What the codecs accept or
write, this must read the same way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import httptools

_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_LINE = re.compile(rb"(%b+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n" % _TCHAR)
_STATUS = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_FIELD = re.compile(
    rb"(%b+):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*\r\n" % _TCHAR
)
_CHUNK = re.compile(
    rb"([0-9A-Fa-f]+)(?:;%b+(?:=(?:%b+|\"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*\"))?)*\r\n"
    % (_TCHAR, _TCHAR)
)

Fields = list[tuple[bytes, bytes]]


class Unreadable(Exception):
    pass


@dataclass
class Message:
    """Of a request `start` is (method, target, minor version), of a response (status, reason, minor version)."""

    start: tuple[Any, ...]
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    end: int = 0

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]


def _fields(data: bytes, at: int) -> tuple[Fields, int]:
    found: Fields = []
    while not data.startswith(b"\r\n", at):
        line = _FIELD.match(data, at)
        if line is None:
            raise Unreadable(f"field at {at}")
        found.append((line[1].lower(), line[2]))
        at = line.end()
    return found, at + 2


def _body(message: Message, data: bytes, at: int) -> None:
    codings, lengths = message.values(b"transfer-encoding"), message.values(b"content-length")
    if codings:
        if lengths or [coding.lower() for coding in codings] != [b"chunked"]:
            raise Unreadable("framing")
        while True:
            line = _CHUNK.match(data, at)
            if line is None:
                raise Unreadable(f"chunk at {at}")
            size, at = int(line[1], 16), line.end()
            if not size:
                break
            if data[at + size : at + size + 2] != b"\r\n":
                raise Unreadable(f"chunk's end at {at + size}")
            message.body += data[at : at + size]
            at += size + 2
        message.trailers, at = _fields(data, at)
    elif lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
            raise Unreadable("framing")
        size = int(lengths[0])
        if len(data) < at + size:
            raise Unreadable("short body")
        message.body, at = data[at : at + size], at + size
    message.end = at


def request(data: bytes, at: int = 0) -> Message:
    line = _LINE.match(data, at)
    if line is None:
        raise Unreadable(f"request line at {at}")
    found, at = _fields(data, line.end())
    message = Message((line[1], line[2], int(line[3])), found)
    _body(message, data, at)
    return message


def response(data: bytes, at: int = 0, *, bodiless: bool = False) -> Message:
    line = _STATUS.match(data, at)
    if line is None:
        raise Unreadable(f"status line at {at}")
    found, at = _fields(data, line.end())
    message = Message((int(line[2]), line[3] or b"", int(line[1])), found, end=at)
    if not bodiless:
        _body(message, data, at)
    return message


class _Listener:
    def __init__(self) -> None:
        self.target = self.body = b""
        self.fields: Fields = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def by_llhttp(data: bytes) -> Message:
    """One request as llhttp reads it, with all its callbacks: `fields` have the trailers at their end."""
    listener = _Listener()
    parser = httptools.HttpRequestParser(listener)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        if upgrade.args[0] != len(data):
            raise Unreadable("it ends elsewhere") from None
    except httptools.HttpParserError as wrong:
        raise Unreadable(str(wrong)) from None
    if not listener.complete:
        raise Unreadable("it does not end")
    start = (parser.get_method(), listener.target, int(parser.get_http_version()[2:]))
    return Message(start, listener.fields, listener.body, end=len(data))
