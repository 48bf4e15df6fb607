"""The name server: a question and a snapshot in, a message or silence out."""

from __future__ import annotations

import random
import socket
import struct

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSHeader, DNSQuestion, DNSRecord

from weft.daemon import dns
from weft.policies.model import Protocol
from weft.policies.snapshot import AddressItem, BackendItem, ClusterPart, ServiceItem, ServicePortItem

BACKENDS = tuple(
    BackendItem(ip, 8080, pod=f"default/web-{number}")
    for number in (0, 1)
    for ip in (f"10.244.1.{number + 2}", f"fd00:10:244:1::{number + 2:x}")
)
PORT = ServicePortItem("http", Protocol.TCP, 80, 0, "", BACKENDS)
CLUSTER = ClusterPart(
    services={
        "default/orders": ServiceItem("default", "orders", "ClusterIP", ("10.96.4.4", "fd00:10:96::404"), (PORT,)),
        "default/web": ServiceItem("default", "web", "ClusterIP", (), (PORT,), headless=True),
        "default/four": ServiceItem("default", "four", "ClusterIP", ("10.96.5.5",), (PORT,)),
        "default/api.example.com": ServiceItem(
            "default", "api.example.com", "ServiceEntry", ("240.240.3.7", "fd00:240:240::307"), (PORT,)
        ),
        "default/empty": ServiceItem("default", "empty", "ClusterIP", (), (), headless=True),
    },
    addresses={
        ip: AddressItem(ip, 300, "node-1", pod="default/web-0") for ip in ("10.244.1.2", "fd00:10:244:1::2")
    },
)
DIRECTORY = dns.Directory(CLUSTER)
SVC = "default.svc.cluster.local"


def ask(name: str, kind: str = "A", limit: int = dns.UDP_PLAIN, **how: int) -> DNSRecord:
    query = DNSRecord(DNSHeader(id=7, rd=1), q=DNSQuestion(name, getattr(QTYPE, kind), how.get("qclass", 1)))
    reply = dns.respond(query.pack(), DIRECTORY, limit)
    assert reply is not None
    return DNSRecord.parse(reply)


def told(name: str, kind: str = "A") -> tuple[str, list[str]]:
    reply = ask(name, kind)
    return str(RCODE[reply.header.rcode]), sorted(str(record.rdata) for record in reply.rr)


@pytest.mark.parametrize(
    "name, kind, code, answers",
    [
        pytest.param(f"orders.{SVC}", "A", "NOERROR", ["10.96.4.4"], id="a service has its IPv4 address"),
        pytest.param(f"orders.{SVC}", "AAAA", "NOERROR", ["fd00:10:96::404"], id="and its IPv6 address"),
        pytest.param("ORDERS.Default.SVC.cluster.LOCAL", "A", "NOERROR", ["10.96.4.4"], id="in any case"),
        pytest.param(f"four.{SVC}", "AAAA", "NOERROR", [], id="no address of that family is no error"),
        pytest.param(f"orders.{SVC}", "MX", "NOERROR", [], id="no record of that type is no error"),
        pytest.param(f"web.{SVC}", "A", "NOERROR", ["10.244.1.2", "10.244.1.3"], id="headless: the pods"),
        pytest.param(f"web-1.web.{SVC}", "AAAA", "NOERROR", ["fd00:10:244:1::3"], id="headless: one pod by name"),
        pytest.param(f"10-244-1-3.web.{SVC}", "A", "NOERROR", ["10.244.1.3"], id="headless: by dashed address"),
        pytest.param(f"empty.{SVC}", "A", "NOERROR", [], id="headless without pods exists"),
        pytest.param(
            "API.example.com", "A", "NOERROR", ["240.240.3.7"], id="a ServiceEntry's host has its address"
        ),
        pytest.param("api.example.com", "AAAA", "NOERROR", ["fd00:240:240::307"], id="of either family"),
        pytest.param("api.example.com", "MX", "NOERROR", [], id="and nothing else"),
        pytest.param("x.api.example.com", "A", "REFUSED", [], id="what lies below it is not ours"),
        pytest.param(f"api.example.com.{SVC}", "A", "NXDOMAIN", [], id="nor is it a name of the zone"),
        pytest.param(f"web-9.web.{SVC}", "A", "NXDOMAIN", [], id="headless: no such pod"),
        pytest.param(f"x.orders.{SVC}", "A", "NXDOMAIN", [], id="nothing stands below a service with an address"),
        pytest.param(f"nobody.{SVC}", "A", "NXDOMAIN", [], id="no such service"),
        pytest.param("orders.other.svc.cluster.local", "A", "NXDOMAIN", [], id="no such namespace"),
        pytest.param("default.svc.cluster.local", "A", "NOERROR", [], id="a namespace exists"),
        pytest.param("cluster.local", "A", "NOERROR", [], id="the zone exists"),
        pytest.param("10-244-1-2.default.pod.cluster.local", "A", "NOERROR", ["10.244.1.2"], id="a pod by address"),
        pytest.param(
            "fd00-10-244-1--2.default.pod.cluster.local", "AAAA", "NOERROR", ["fd00:10:244:1::2"], id="by its IPv6"
        ),
        pytest.param("10-244-1-2.other.pod.cluster.local", "A", "NXDOMAIN", [], id="not in another namespace"),
        pytest.param("10-9-9-9.default.pod.cluster.local", "A", "NXDOMAIN", [], id="not an address nobody has"),
        pytest.param(
            f"_http._tcp.orders.{SVC}", "SRV", "NOERROR", [f"0 100 80 orders.{SVC}."], id="SRV: the service port"
        ),
        pytest.param(
            f"_http._tcp.web.{SVC}",
            "SRV",
            "NOERROR",
            [f"0 100 8080 web-0.web.{SVC}.", f"0 100 8080 web-1.web.{SVC}."],
            id="SRV, headless: each pod and its port",
        ),
        pytest.param(f"_http._udp.orders.{SVC}", "SRV", "NXDOMAIN", [], id="SRV: not of that protocol"),
        pytest.param("4.4.96.10.in-addr.arpa", "PTR", "NOERROR", [f"orders.{SVC}."], id="the name of an address"),
        pytest.param("3.1.244.10.in-addr.arpa", "PTR", "NOERROR", [f"web-1.web.{SVC}."], id="of a headless pod"),
        pytest.param("9.9.96.10.in-addr.arpa", "PTR", "NXDOMAIN", [], id="of an address nobody has"),
        pytest.param("96.10.in-addr.arpa", "PTR", "REFUSED", [], id="half an address"),
        pytest.param("example.com", "A", "REFUSED", [], id="outside the zone"),
        pytest.param("orders", "A", "NXDOMAIN", [], id="a bare name: the search list is the client's"),
        pytest.param("nobody.default", "A", "NXDOMAIN", [], id="the last try of a service that is not there"),
        pytest.param("orders.nowhere.svc", "A", "NXDOMAIN", [], id="the last try of a namespace that is not there"),
        pytest.param(".", "A", "REFUSED", [], id="the root"),
    ],
)
def test_a_question_and_its_answer(name: str, kind: str, code: str, answers: list[str]) -> None:
    assert told(name, kind) == (code, answers)


def test_an_ipv6_address_has_its_name() -> None:
    name = ".".join(reversed("fd00001000960000" + "0000000000000404")) + ".ip6.arpa"
    assert told(name, "PTR") == ("NOERROR", [f"orders.{SVC}."])


def test_an_empty_answer_carries_the_zone_so_that_it_is_cached_briefly() -> None:
    for name in (f"nobody.{SVC}", f"four.{SVC}"):
        (record,) = ask(name, "AAAA").auth
        assert (record.rtype, record.ttl) == (QTYPE.SOA, dns.TTL)


def test_the_answer_repeats_the_question_and_is_authoritative() -> None:
    reply = ask(f"orders.{SVC}")
    assert (reply.header.id, reply.header.qr, reply.header.aa, reply.header.ra) == (7, 1, 1, 0)
    assert str(reply.q.qname) == f"orders.{SVC}."
    assert {record.ttl for record in reply.rr} == {dns.TTL}


def test_another_class_is_refused() -> None:
    assert ask(f"orders.{SVC}", qclass=3).header.rcode == RCODE.REFUSED


def many(count: int) -> dns.Directory:
    backends = tuple(BackendItem(f"10.244.{i // 250}.{i % 250}", 80, pod=f"default/p{i}") for i in range(count))
    port = ServicePortItem("http", Protocol.TCP, 80, 0, "", backends)
    service = ServiceItem("default", "many", "ClusterIP", (), (port,), headless=True)
    return dns.Directory(ClusterPart(services={"default/many": service}))


def test_what_does_not_fit_a_datagram_is_cut_and_asked_again_by_stream() -> None:
    query = DNSRecord.question(f"many.{SVC}").pack()
    cut = dns.respond(query, many(200))
    whole = dns.respond(query, many(200), 0xFFFF)
    assert cut is not None and whole is not None
    assert len(cut) <= 512 and DNSRecord.parse(cut).header.tc == 1 and not DNSRecord.parse(cut).rr
    assert len(DNSRecord.parse(whole).rr) == 200


def test_edns_makes_room_in_a_datagram() -> None:
    query = DNSRecord.question(f"many.{SVC}")
    query.add_ar(EDNS0(udp_len=4096))
    reply = dns.respond(query.pack(), many(50))
    assert reply is not None and 512 < len(reply) <= dns.UDP_MOST
    assert len(DNSRecord.parse(reply).rr) == 50


@pytest.mark.parametrize(
    "message, code",
    [
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"\0" * 11, None, id="less than a header"),
        pytest.param(
            b"\0\7\x80\0" + b"\0" * 8, None, id="a response: answering it would make two servers talk for ever"
        ),
        pytest.param(b"\0\7\1\0\0\1" + b"\0" * 6, RCODE.FORMERR, id="a question that is missing"),
        pytest.param(b"\0\7\1\0\0\0" + b"\0" * 6, RCODE.FORMERR, id="no question"),
        pytest.param(b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", RCODE.FORMERR, id="a name that points at itself"),
        pytest.param(b"\0\7\x28\0\0\1\0\0\0\0\0\0\0\0\6\0\1", RCODE.NOTIMP, id="an update"),
    ],
)
def test_bytes_that_are_no_question(message: bytes, code: int | None) -> None:
    reply = dns.respond(message, DIRECTORY)
    if code is None:
        assert reply is None
    else:
        assert reply is not None and len(reply) >= 12
        assert (reply[:2], reply[3] & 15) == (message[:2], code)


def test_a_defect_of_ours_is_a_server_failure_and_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(dns.Directory, "find", fail)
    reply = dns.respond(DNSRecord.question(f"orders.{SVC}").pack(), DIRECTORY)
    assert reply is not None and reply[3] & 15 == RCODE.SERVFAIL


@pytest.fixture
def server() -> dns.Server:
    port = random.randrange(20000, 30000)
    return dns.Server(lambda: DIRECTORY, ("127.0.0.1", "::1"), port)


def test_the_server_answers_datagrams_and_streams_of_both_families(server: dns.Server) -> None:
    server.start()
    try:
        query = DNSRecord.question(f"orders.{SVC}").pack()
        for address, port in server._where:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(2)
                sock.sendto(b"\0" * 5, (address, port))  # ignored, and does no harm
                sock.sendto(query, (address, port))
                assert DNSRecord.parse(sock.recv(512)).rr
            with socket.create_connection((address, port), 2) as stream, stream.makefile("rb") as reader:
                for byte in struct.pack("!H", len(query)) + query + struct.pack("!H", len(query)):
                    stream.sendall(bytes([byte]))
                stream.sendall(query)
                for _ in range(2):
                    (length,) = struct.unpack("!H", reader.read(2))
                    assert DNSRecord.parse(reader.read(length)).rr
    finally:
        server.stop()
    assert server.answered == 6 and server.ignored == 2
