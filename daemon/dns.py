"""The node's name server: names of Services, pods and hosts of ServiceEntries, from the snapshot, and nothing else.

In: a DNS message, and the cluster part of the snapshot. Out: a DNS message, or None where an answer would help
nobody but an attacker (a response sent to us, a header that is cut off). No forwarding: a name outside
`cluster.local` is not answered. The rules, in order:

    not a query, shorter than a header      no answer
    another opcode                          NOTIMP
    does not parse, not one question        FORMERR
    another class                           REFUSED
    the host of a ServiceEntry              its addresses
    outside the zone                        REFUSED; NXDOMAIN for a bare name, and `x.NAMESPACE`, `x.y.svc`
    in the zone, unknown                    NXDOMAIN
    known, no record of this type           NOERROR, empty, with the SOA
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import cast

from dnslib import (
    AAAA,
    CLASS,
    EDNS0,
    OPCODE,
    PTR,
    QTYPE,
    RCODE,
    RR,
    SOA,
    SRV,
    A,
    DNSHeader,
    DNSLabel,
    DNSQuestion,
    DNSRecord,
)

from weft.policies.snapshot import BackendItem, ClusterPart, ServiceItem, ServicePortItem

ADDRESSES = ("10.96.0.10", "fd00:10:96::a")
PORT = 53
ZONE = ("cluster", "local")
ENTRY = "ServiceEntry"  # the type of a service that one declares
ANY_CLASS = 255
TTL = 5  # seconds; as short as Kubernetes' own, for what stands behind a headless name moves
HEADER, QUESTION_END = struct.Struct("!HHHHHH"), struct.Struct("!HH")
UDP_PLAIN, UDP_MOST = 512, 1232  # bytes: without EDNS; and what passes every path unfragmented
TCP_CLIENTS, TCP_IDLE = 64, 5.0  # open connections at most, and the seconds one may be silent
REVERSE_4, REVERSE_6 = ("in-addr", "arpa"), ("ip6", "arpa")
IPAddress = IPv4Address | IPv6Address
log = logging.getLogger("weft.dns")


@dataclass(frozen=True)
class Directory:
    """The names in one snapshot. Made anew for each: what is derived, is derived when first asked."""

    cluster: ClusterPart = field(default_factory=ClusterPart)

    def find(self, name: tuple[str, ...]) -> Found | None:
        """`name` without the zone, lower case, most specific label first: ("orders", "default", "svc")."""
        match name:
            case () | ("svc",) | ("pod",):
                return Found()
            case (namespace, "svc" | "pod"):
                return Found() if namespace in self.namespaces else None
            case (dashed, namespace, "pod"):
                return self._pod(dashed, namespace)
            case (*below, service, namespace, "svc"):
                item = self.cluster.services.get(f"{namespace}/{service}")
                return None if item is None else below_service(item, tuple(below))
        return None

    @cached_property
    def declared(self) -> dict[tuple[str, ...], ServiceItem]:
        """By their whole names: the hosts that ServiceEntries declare."""
        items = (item for item in self.cluster.services.values() if item.type == ENTRY)
        return {tuple(item.name.split(".")): item for item in items}

    def name_of(self, address: IPAddress) -> str | None:
        return self.reverse.get(str(address))

    def _pod(self, dashed: str, namespace: str) -> Found | None:
        address = undash(dashed)
        item = None if address is None else self.cluster.addresses.get(str(address))
        if item is None or address is None or not item.pod.startswith(f"{namespace}/"):
            return None
        return Found(addresses=(address,))

    @cached_property
    def namespaces(self) -> frozenset[str]:
        pods = (item.pod for item in self.cluster.addresses.values() if item.pod)
        return frozenset(key.partition("/")[0] for key in (*self.cluster.services, *pods))

    @cached_property
    def reverse(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for item in self.cluster.services.values():
            host = item.host
            if item.headless:
                for backend in backends(item):
                    names.setdefault(str(ip_address(backend.ip)), f"{host_of(backend)}.{host}")
            names.update((str(ip_address(ip)), host) for ip in item.cluster_ips)
        return names


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at a name. All empty: the name exists, and has nothing of its own."""

    addresses: tuple[IPAddress, ...] = ()
    ports: tuple[tuple[ServicePortItem, str], ...] = ()  # and the host below the service: "" the service itself


def backends(item: ServiceItem) -> tuple[BackendItem, ...]:
    """Each ready backend once, whatever ports it has."""
    return tuple({backend.ip: backend for port in item.ports for backend in port.backends}.values())


def host_of(backend: BackendItem) -> str:
    """The label of a headless service's backend: its pod's name, or its address with dashes."""
    name = backend.pod.partition("/")[2]
    return name if name and "." not in name else dash(ip_address(backend.ip))


def dash(address: IPAddress) -> str:
    return str(address).replace(".", "-").replace(":", "-")


def undash(label: str) -> IPAddress | None:
    for separator in (".", ":"):
        with contextlib.suppress(ValueError):
            return ip_address(label.replace("-", separator))
    return None


def below_service(item: ServiceItem, below: tuple[str, ...]) -> Found | None:
    match below:
        case ():
            return Found(
                addresses_of(item), tuple((port, host) for port in item.ports for host in hosts(item, port))
            )
        case (proto,) if proto in ("_tcp", "_udp", "_sctp"):
            return Found() if ports_of(item, proto) else None
        case (name, proto) if name.startswith("_") and proto.startswith("_"):
            ports = [port for port in ports_of(item, proto) if port.name.lower() == name[1:]]
            return Found(ports=tuple((p, host) for p in ports for host in hosts(item, p))) if ports else None
        case (host,) if item.headless:
            named = tuple(ip_address(b.ip) for b in backends(item) if host in (host_of(b), dash(ip_address(b.ip))))
            return Found(named) if named else None
    return None


def addresses_of(item: ServiceItem) -> tuple[IPAddress, ...]:
    source: Sequence[str] = [b.ip for b in backends(item)] if item.headless else item.cluster_ips
    return tuple(ip_address(text) for text in source)


def ports_of(item: ServiceItem, proto: str) -> list[ServicePortItem]:
    return [port for port in item.ports if f"_{port.protocol.name.lower()}" == proto]


def hosts(item: ServiceItem, port: ServicePortItem) -> tuple[str, ...]:
    return tuple(dict.fromkeys(host_of(b) for b in port.backends)) if item.headless else ("",)


@dataclass(frozen=True, slots=True)
class Question:
    """`labels`: most specific first, as they were written. `room`: what the client takes by datagram."""

    labels: tuple[bytes, ...]
    kind: int
    klass: int
    room: int
    edns: bool


class Malformed(ValueError):
    """Bytes that are no question."""


def parse(message: bytes) -> Question:
    """Read by hand, for it is what strangers send: dnslib follows compression pointers, which no question needs,
    by recursion. What stands behind the question is looked at only for EDNS. Raises Malformed."""
    _, _, questions, answers, authorities, additional = HEADER.unpack_from(message)
    if questions != 1:
        raise Malformed(f"{questions} questions")
    labels, at = _name(message, HEADER.size)
    if len(message) < at + QUESTION_END.size:
        raise Malformed("the question is cut off")
    kind, klass = QUESTION_END.unpack_from(message, at)
    room = 0
    if additional and not answers and not authorities:
        room = _edns_room(message[at + QUESTION_END.size :])
    return Question(labels, kind, klass, max(UDP_PLAIN, min(room, UDP_MOST)), room > 0)


def _name(message: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    labels: list[bytes] = []
    start = at
    while True:
        length = message[at] if at < len(message) else 64
        if length > 63:  # or past the end
            raise Malformed("the name has no end, or is compressed")
        at += 1 + length
        if not length:
            return tuple(labels), at
        if at > len(message) or at - start > 254:
            raise Malformed("the name is cut off or too long")
        labels.append(bytes(message[at - length : at]))


def _edns_room(rest: bytes) -> int:
    """Of an OPT record, whose name is the root: the class is the size (RFC 6891); 0: no such record."""
    if len(rest) < 11 or rest[0] or int.from_bytes(rest[1:3], "big") != QTYPE.OPT:
        return 0
    return max(int.from_bytes(rest[3:5], "big"), UDP_PLAIN)


def respond(message: bytes, directory: Directory, limit: int = UDP_PLAIN) -> bytes | None:
    """The answer to one message. `limit`: of a datagram without EDNS; 65535 on a stream. Never raises."""
    if len(message) < HEADER.size or message[2] & 0x80:
        return None
    if message[2] >> 3 & 15 != OPCODE.QUERY:
        return _bare(message, RCODE.NOTIMP)
    try:
        question = parse(message)
    except Malformed:
        return _bare(message, RCODE.FORMERR)
    try:
        return _answer(message, question, directory, max(limit, question.room))
    except Exception:
        log.exception("a question we could not answer: %s", message.hex())
        return _bare(message, RCODE.SERVFAIL)


def _bare(message: bytes, code: int) -> bytes:
    """A header alone: for a message whose question cannot be repeated."""
    number, flags, *_ = HEADER.unpack_from(message)
    return HEADER.pack(number, 0x8000 | (flags & 0x7900) | code, 0, 0, 0, 0)


def _answer(message: bytes, question: Question, directory: Directory, limit: int) -> bytes:
    number, flags, *_ = HEADER.unpack_from(message)
    header = DNSHeader(id=number, qr=1, aa=1, rd=flags >> 8 & 1, ra=0)
    label = DNSLabel(question.labels)
    reply = DNSRecord(header, q=DNSQuestion(label, question.kind, question.klass))
    reply.header.rcode = _fill(reply, label, question, directory)
    if question.edns:
        reply.add_ar(EDNS0(udp_len=UDP_MOST))
    packed = bytes(reply.pack())
    if len(packed) > limit:  # too long for its datagram: the client asks again by TCP
        reply.header.tc, reply.rr, reply.auth = 1, [], []
        packed = bytes(reply.pack())
    return packed


def _fill(reply: DNSRecord, label: DNSLabel, question: Question, directory: Directory) -> int:
    """Adds the records that answer the question; the response code."""
    if question.klass not in (CLASS.IN, ANY_CLASS):
        return int(RCODE.REFUSED)
    name = tuple(part.decode("ascii", "replace").lower() for part in question.labels)
    if name[-2:] in (REVERSE_4, REVERSE_6):
        return _fill_reverse(reply, label, question.kind, name, directory)
    declared = directory.declared.get(name)
    if name[-2:] != ZONE and declared is None:
        return int(RCODE.NXDOMAIN if misspelt(name, directory) else RCODE.REFUSED)
    found = directory.find(name[:-2]) if declared is None else below_service(declared, ())
    if found is not None:
        for record in _records(label, question.kind, name, found):
            reply.add_answer(record)
    if not reply.rr:
        reply.add_auth(_soa())
    return int(RCODE.NXDOMAIN if found is None else RCODE.NOERROR)


def misspelt(name: tuple[str, ...], directory: Directory) -> bool:
    """Whether it is the last that a resolver tries of a name of ours: bare, or ending in `svc` or a namespace. Of
    those it is told that there is none, at once; a refusal it would take for a moment's trouble, and ask again."""
    return len(name) == 1 or (bool(name) and (name[-1] == "svc" or directory.find((name[-1], "svc")) is not None))


def _soa() -> RR:
    zone = ".".join(ZONE)
    times = (1, 7200, 1800, 86400, TTL)
    return RR(zone, QTYPE.SOA, ttl=TTL, rdata=SOA(f"ns.dns.{zone}", f"hostmaster.{zone}", times))


def _records(label: DNSLabel, kind: int, name: tuple[str, ...], found: Found) -> Iterator[RR]:
    """In random order: clients take the first."""
    every = kind == QTYPE.ANY
    for address in random.sample(found.addresses, len(found.addresses)):
        if address.version == 4 and (every or kind == QTYPE.A):
            yield RR(label, QTYPE.A, ttl=TTL, rdata=A(str(address)))
        elif address.version == 6 and (every or kind == QTYPE.AAAA):
            yield RR(label, QTYPE.AAAA, ttl=TTL, rdata=AAAA(str(address)))
    if every or kind == QTYPE.SRV:
        service = ".".join(part for part in name if not part.startswith("_"))
        for port, host in found.ports:
            for number in sorted({b.port for b in port.backends if host_of(b) == host} if host else {port.port}):
                target = f"{host}.{service}" if host else service
                yield RR(label, QTYPE.SRV, ttl=TTL, rdata=SRV(0, 100, number, target))


def _fill_reverse(reply: DNSRecord, label: DNSLabel, kind: int, name: tuple[str, ...], directory: Directory) -> int:
    address = reverse_address(name)
    owner = None if address is None else directory.name_of(address)
    if owner is None:
        return int(RCODE.NXDOMAIN if address is not None else RCODE.REFUSED)
    if kind in (QTYPE.PTR, QTYPE.ANY):
        reply.add_answer(RR(label, QTYPE.PTR, ttl=TTL, rdata=PTR(owner)))
    return int(RCODE.NOERROR)


def reverse_address(name: tuple[str, ...]) -> IPAddress | None:
    """The address of a whole reverse name; None for a part of one."""
    parts = name[:-2][::-1]
    with contextlib.suppress(ValueError):
        if name[-2:] == REVERSE_4 and len(parts) == 4:
            return IPv4Address(".".join(parts))
        if name[-2:] == REVERSE_6 and len(parts) == 32:
            return IPv6Address(int("".join(parts), 16))
    return None


class Server:
    """Serves `directory()` on `addresses`, UDP and TCP, from one thread with a loop of its own: whatever asks,
    the daemon's loop is not held up. `directory` is called in that thread and must only read."""

    def __init__(self, directory: Callable[[], Directory], addresses: Sequence[str] = ADDRESSES, port: int = PORT):
        self._directory = directory
        self._where = [(address, port) for address in addresses]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="weft-dns", daemon=True)
        self._listeners: list[asyncio.BaseTransport | asyncio.Server] = []
        self._clients = 0
        self.answered = self.ignored = 0

    def start(self) -> None:
        """Binds, then serves. OSError where an address is not on this node or the port is taken."""
        self._loop.run_until_complete(self._bind())
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        self._loop.run_forever()
        for listener in self._listeners:
            listener.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:  # `gather` of none asks for the thread's own loop, and there is none
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _bind(self) -> None:
        for where in self._where:
            datagrams, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=where)
            streams = await asyncio.start_server(self._stream, *where, limit=1 << 16, backlog=TCP_CLIENTS)
            self._listeners += [datagrams, streams]

    def answer(self, message: bytes, limit: int) -> bytes | None:
        reply = respond(message, self._directory(), limit)
        self.answered += reply is not None
        self.ignored += reply is None
        return reply

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Messages with their length before them (RFC 7766), one after the other."""
        self._clients += 1
        try:
            while self._clients <= TCP_CLIENTS:
                async with asyncio.timeout(TCP_IDLE):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    message = await reader.readexactly(length)
                if (reply := self.answer(message, 0xFFFF)) is None:
                    return
                writer.write(struct.pack("!H", len(reply)) + reply)
                async with asyncio.timeout(TCP_IDLE):
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return  # the client went away or fell silent
        finally:
            self._clients -= 1
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # in 3.11 it is one by behaviour only

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (reply := self._server.answer(data, UDP_PLAIN)) is not None:
            self._transport.sendto(reply, addr)
