"""Names to addresses, through the node's DNS servers: for destinations that are declared by name.

In: a host name. Out: its addresses, IPv4 first, kept for as long as the records live (bounded to 1 s .. 5 min).
Servers are asked in turn over UDP, over TCP where an answer was cut. Without servers the system's resolver answers,
in a thread of the loop, for 30 s.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

from dnslib import CLASS, QTYPE, RCODE, DNSHeader, DNSQuestion, DNSRecord

LEAST_TTL: Final = 1.0
MOST_TTL: Final = 300.0
SYSTEM_TTL: Final = 30.0
FAILED_TTL: Final = 2.0
TIMEOUT: Final = 2.0
REMEMBERED: Final = 4096
_TYPES: Final = (QTYPE.A, QTYPE.AAAA)


class Unresolved(OSError):
    """No server knows the name, or none answered."""


class Resolver:
    def __init__(self, now: Callable[[], float], servers: Sequence[str] = ()) -> None:
        """`servers`: addresses, or `address:port` / `[address]:port`."""
        self.servers = tuple(servers)
        self._now = now
        self._known: dict[str, tuple[float, list[str], str]] = {}  # until, addresses, why there are none
        self._asking: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str) -> list[str]:
        """Raises Unresolved. Several who ask at once share one look-up."""
        name = host.rstrip(".").lower()
        until, addresses, why = self._known.get(name, (0.0, [], ""))
        if until > self._now():
            if why:
                raise Unresolved(why)
            return addresses
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._look_up(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(task)

    async def _look_up(self, name: str) -> list[str]:
        try:
            found, ttl = await (self._ask_servers(name) if self.servers else self._ask_system(name))
        except OSError as error:
            self._remember(name, FAILED_TTL, [], str(error))
            raise Unresolved(str(error)) from None
        self._remember(name, min(max(ttl, LEAST_TTL), MOST_TTL), found, "")
        return found

    def _remember(self, name: str, ttl: float, found: list[str], why: str) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[name] = self._now() + ttl, found, why

    async def _ask_system(self, name: str) -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise Unresolved(f"{name}: {error}") from None
        addresses = dict.fromkeys(str(info[4][0]) for info in infos)
        return sorted(addresses, key=lambda ip: ":" in ip), SYSTEM_TTL

    async def _ask_servers(self, name: str) -> tuple[list[str], float]:
        why = ""
        for server in self.servers:
            try:
                answers = await asyncio.gather(*(_query(server, name, kind) for kind in _TYPES))
            except (OSError, TimeoutError) as error:
                why = f"{name}: {server}: {error or 'no answer'}"
                continue
            records = [record for answer in answers for record in answer]
            if records:
                return [ip for ip, _ in records], float(min(ttl for _, ttl in records))
            why = f"{name}: no address"
        raise Unresolved(why)


async def _query(server: str, name: str, kind: int) -> list[tuple[str, int]]:
    """(address, ttl) of each record. Raises OSError, TimeoutError."""
    ip, port = _place(server)
    number = random.getrandbits(16)
    header = DNSHeader(id=number, rd=1)
    packed = DNSRecord(header, q=DNSQuestion(name, kind, CLASS.IN)).pack()
    async with asyncio.timeout(TIMEOUT):
        reply = _answer(await _over_udp(ip, port, packed), number)
        if reply.header.tc:
            reply = _answer(await _over_tcp(ip, port, packed), number)
    if reply.header.rcode not in (RCODE.NOERROR, RCODE.NXDOMAIN):
        raise OSError(f"answered {RCODE.get(reply.header.rcode)}")
    return [(str(record.rdata), record.ttl) for record in reply.rr if record.rtype == kind]


def _answer(data: bytes, number: int) -> DNSRecord:
    try:
        reply = DNSRecord.parse(data)
    except Exception as error:  # whatever dnslib makes of a stranger's bytes
        raise OSError(f"no DNS answer ({error})") from None
    if reply.header.id != number or not reply.header.qr:
        raise OSError("an answer to another question")
    return reply


class _Once(asyncio.DatagramProtocol):
    def __init__(self, waiter: asyncio.Future[bytes]) -> None:
        self._waiter = waiter

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._waiter.done():
            self._waiter.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._waiter.done():
            self._waiter.set_exception(exc)


async def _over_udp(ip: str, port: int, packed: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Once(waiter), remote_addr=(ip, port))
    try:
        transport.sendto(packed)
        return await waiter
    finally:
        transport.close()


async def _over_tcp(ip: str, port: int, packed: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(ip, port)
    try:
        writer.write(len(packed).to_bytes(2, "big") + packed)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise OSError("the answer was cut") from None
    finally:
        writer.close()


def _place(server: str) -> tuple[str, int]:
    if server.startswith("["):
        ip, _, port = server[1:].partition("]:")
        return ip.rstrip("]"), int(port or 53)
    ip, colon, port = server.rpartition(":")
    return (ip, int(port)) if colon and ":" not in ip else (server, 53)
