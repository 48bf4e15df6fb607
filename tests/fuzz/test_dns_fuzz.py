"""Whatever bytes a pod sends to the name server, it answers a message or nothing: it never raises, never answers a
response, never answers more than the room it was given."""

from __future__ import annotations

from dnslib import QTYPE, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.daemon import dns
from weft.policies.model import Protocol
from weft.policies.snapshot import BackendItem, ClusterPart, ServiceItem, ServicePortItem

_BACKENDS = tuple(BackendItem(f"10.244.1.{i}", 80, pod=f"default/web-{i}") for i in range(2, 100))
_PORT = ServicePortItem("http", Protocol.TCP, 80, 0, "", _BACKENDS)
DIRECTORY = dns.Directory(
    ClusterPart(
        services={
            "default/web": ServiceItem("default", "web", "ClusterIP", (), (_PORT,), headless=True),
            "default/orders": ServiceItem("default", "orders", "ClusterIP", ("10.96.4.4",), (_PORT,)),
        }
    )
)
LABELS = st.sampled_from(
    ["web", "orders", "default", "svc", "pod", "cluster", "local", "_http", "_tcp", "web-2", "x"]
)
NAMES = st.lists(LABELS, max_size=8).map(".".join)
KINDS = st.sampled_from([1, 12, 15, 28, 33, 41, 255, 65535])
HEADS = st.sampled_from([b"", b"\0\7\1\0\0\1\0\0\0\0\0\0", b"\0\7\1\0\0\1\0\0\0\0\0\1"])


def check(message: bytes, limit: int) -> None:
    reply = dns.respond(message, DIRECTORY, limit)
    if reply is None:
        assert len(message) < 12 or message[2] & 0x80
        return
    assert reply[:2] == message[:2] and reply[2] & 0x80
    assert reply[3] & 15 != 2, "a server failure is a defect of ours"
    assert len(reply) <= max(limit, dns.UDP_MOST)


@settings(max_examples=2000, deadline=None)
@given(HEADS, st.binary(max_size=600))
def test_any_bytes(head: bytes, tail: bytes) -> None:
    check(head + tail, dns.UDP_PLAIN)


@settings(max_examples=1000, deadline=None)
@given(NAMES, KINDS, st.integers(0, 40), st.integers(0, 255), st.sampled_from([512, 65535]))
def test_a_question_with_one_byte_changed_and_every_part_of_it(
    name: str, kind: int, at: int, byte: int, limit: int
) -> None:
    message = bytearray(DNSRecord.question(name or ".", QTYPE[kind] if kind in QTYPE.forward else "A").pack())
    check(bytes(message), limit)
    message[at % len(message)] = byte
    for end in range(len(message) + 1):
        check(bytes(message[:end]), limit)


def test_a_pointer_to_itself_and_a_chain_of_pointers_end() -> None:
    check(b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", 512)
    check(b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c" * 30000, 512)
