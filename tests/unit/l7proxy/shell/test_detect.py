"""First bytes, whole and one by one, and what they are taken for."""

from __future__ import annotations

import ssl

import pytest

from weft.l7proxy.detect import (
    MOST,
    PREFACE,
    Declared,
    Hello,
    Speech,
    client_hello,
    declared,
    http_speech,
    speech,
)


def hello(name: str | None, alpn: tuple[str, ...] = ()) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


FIRST_BYTES = [
    (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", Speech.HTTP1),
    (b"\r\nPOST /x HTTP/1.0\r\n", Speech.HTTP1),
    (b"PURGE /x HTTP/1.1\n", Speech.HTTP1),
    (b"M-SEARCH * HTTP/1.1\r\n", Speech.HTTP1),
    (b"hello", Speech.TCP),
    (b"PASS", Speech.TCP),
    (b"GETX", Speech.TCP),
    (b"STATS items", Speech.TCP),
    (PREFACE + b"\0\0\0\4\0", Speech.HTTP2),
    (hello("api.example.com"), Speech.TLS),
    (b"EHLO mail.example.com\r\n", Speech.TCP),
    (b"*1\r\n$4\r\nPING\r\n", Speech.TCP),
    (b"SET a b\r\n", Speech.TCP),
    (b"\x00\x01\x02", Speech.TCP),
    (b"SSH-2.0-OpenSSH_9\r\n", Speech.TCP),
    (b"\x16\x02\x00\x00\x04\x01", Speech.TCP),
    (b"PRI * HTTP/2.0\r\n\r\nXX", Speech.TCP),
    (b"PRIVMSG #a :hello\r\n", Speech.TCP),
]


@pytest.mark.parametrize(("data", "wanted"), FIRST_BYTES)
def test_first_bytes_tell_whole_and_byte_by_byte(data: bytes, wanted: Speech) -> None:
    assert speech(data) is wanted
    said = [speech(data[:end]) for end in range(1, len(data) + 1)]
    decided = [s for s in said if s is not Speech.UNSURE]
    assert decided[0] is wanted
    assert set(decided) == {wanted}, "what was decided stays so, however much more comes"


def test_a_method_nobody_knows_takes_a_whole_line() -> None:
    assert speech(b"purge /x HTTP/1.1\n") is Speech.HTTP1
    assert speech(b"purge /x HTTP/1.") is Speech.TCP


def test_a_line_that_never_ends_is_no_http() -> None:
    assert speech(b"GET /" + b"a" * MOST) is Speech.TCP


def test_a_declared_http_port_leaves_nonsense_to_the_http1_codec() -> None:
    assert http_speech(b"\x16\x03\x01") is Speech.HTTP1
    assert http_speech(PREFACE[:10]) is Speech.UNSURE
    assert http_speech(PREFACE) is Speech.HTTP2


@pytest.mark.parametrize("name", ["api.example.com", None])
def test_the_server_name_is_read_once_the_hello_is_whole(name: str | None) -> None:
    data = hello(name, ("h2", "http/1.1"))
    assert client_hello(data) == Hello(True, name or "", ("h2", "http/1.1"))
    assert client_hello(data + b"more") == client_hello(data)
    assert all(not client_hello(data[:end]).complete for end in range(len(data)))


def test_a_hello_in_several_records_is_put_together() -> None:
    data = hello("api.example.com")
    body = data[5:]
    split = b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in (body[:60], body[60:]))
    assert client_hello(split).name == "api.example.com"


def test_no_cut_or_forged_hello_gives_more_than_it_has() -> None:
    data = hello("api.example.com")
    for at in range(5, len(data)):
        for value in (0, 0xFF):
            forged = bytearray(data)
            forged[at] = value
            assert len(client_hello(bytes(forged)).name) <= 253


@pytest.mark.parametrize(
    ("name", "app", "wanted"),
    [
        ("http", "", Declared.HTTP),
        ("http-metrics", "", Declared.HTTP),
        ("grpc-web-x", "", Declared.HTTP),
        ("grpc", "", Declared.HTTP),
        ("https-x", "", Declared.TLS),
        ("mysql", "", Declared.TCP),
        ("httpbin", "", Declared.NOTHING),
        ("", "", Declared.NOTHING),
        ("tcp", "http", Declared.HTTP),
        ("tcp-x", "kubernetes.io/h2c", Declared.HTTP),
        ("http", "example.com/own", Declared.HTTP),
    ],
)
def test_a_port_declares_by_app_protocol_and_then_by_name(name: str, app: str, wanted: Declared) -> None:
    assert declared(name, app) is wanted
