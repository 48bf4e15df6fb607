"""Connections in the client's name, and names to addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

from weft.l7proxy.connector import Connector, Sockets
from weft.l7proxy.core.stream import Failure
from weft.l7proxy.resolver import Resolver, Unresolved

RANGE = range(61000, 65536)


def run(main: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class Taken(asyncio.Protocol):
    """Counts its `connection_made`."""

    def __init__(self) -> None:
        self.made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made += 1


class Attempt:
    def __init__(self) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.protocol = Taken()

    def opened(self, transport: asyncio.Transport) -> asyncio.Protocol:
        self.done.set_result(transport)
        return self.protocol

    def failed(self, failure: Failure, detail: str) -> None:
        self.done.set_result((failure, detail))


def connector(**settings: Any) -> Connector:
    return Connector(asyncio.get_running_loop(), Sockets(transparent=False, **settings))


@pytest.mark.parametrize(("source", "target"), [("127.1.0.5", "127.0.0.1"), ("::1", "::1")])
def test_the_server_sees_the_clients_address_and_a_port_of_ours(source: str, target: str) -> None:
    async def main() -> None:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.create_server((target, 0), family=family) as server:
            attempt = Attempt()
            connector().connect(
                source, server.getsockname()[:2], 1.0, attempt.opened, attempt.failed, (60.0, 5.0, 3)
            )
            transport = await attempt.done
            sock, peer = server.accept()
            assert peer[0] == source
            assert peer[1] in RANGE
            assert attempt.protocol.made == 1
            own = transport.get_extra_info("socket")
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            sock.close()
            transport.abort()

    run(main)


def test_ports_are_tried_until_one_is_free_towards_that_address_and_then_it_fails() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            few = connector(first_port=64000, last_port=64002)
            attempts = []
            for _ in range(4):
                attempts.append(attempt := Attempt())
                few.connect("127.1.0.6", server.getsockname(), 1.0, attempt.opened, attempt.failed)
                await attempt.done
            opened = [a.done.result() for a in attempts[:3]]
            assert {t.get_extra_info("sockname")[1] for t in opened} == {64000, 64001, 64002}
            assert attempts[3].done.result()[0] is Failure.CONNECT
            for transport in opened:
                transport.abort()

    run(main)


def test_what_goes_wrong_is_told_later_and_once() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            closed = server.getsockname()
        wrong = [
            ("127.0.0.1", closed, "refused"),
            ("::1", ("127.0.0.1", 1), "family"),
            ("198.51.100.1", ("127.0.0.1", 1), "assign"),
        ]
        for source, address, word in wrong:
            attempt = Attempt()
            connector().connect(source, address, 1.0, attempt.opened, attempt.failed)
            assert not attempt.done.done()
            failure, detail = await attempt.done
            assert failure is Failure.CONNECT
            assert word in detail

    run(main)


def test_a_client_speaks_from_its_own_address_of_the_endpoints_family() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            two = connector()
            two.twin = {"::1": "127.0.0.1"}.__getitem__
            attempt = Attempt()
            two.connect("::1", server.getsockname(), 1.0, attempt.opened, attempt.failed)
            transport = await attempt.done
            assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
            transport.close()

    run(main)


def test_a_connect_that_takes_too_long_is_given_up_and_one_that_is_cancelled_is_silent() -> None:
    async def main() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            late, cancelled = Attempt(), Attempt()
            made = connector()
            made.connect("127.1.0.7", full.getsockname(), 0.05, late.opened, late.failed)
            made.connect("127.1.0.8", full.getsockname(), 0.05, cancelled.opened, cancelled.failed).cancel()
            assert (await late.done)[0] is Failure.CONNECT_TIMEOUT
            await asyncio.sleep(0.05)
            assert not cancelled.done.done()
            for sock in waiting:
                sock.close()

    run(main)


# names


class Dns(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.rcode = RCODE.NOERROR
        self.ttl = 60

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = DNSRecord.parse(data)
        self.asked.append(f"{question.q.qname} {QTYPE[question.q.qtype]}")
        reply = question.reply()
        reply.header.rcode = self.rcode
        name, kind = question.q.qname, question.q.qtype
        known = {QTYPE.A: A("192.0.2.7")}
        if "v4only" not in str(name):
            known[QTYPE.AAAA] = AAAA("2001:db8::7")
        if self.rcode == RCODE.NOERROR and kind in known:
            reply.add_answer(RR(name, kind, rdata=known[kind], ttl=self.ttl))
        self.transport.sendto(reply.pack(), addr)


async def dns() -> tuple[Dns, str]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(Dns, local_addr=("127.0.0.1", 0))
    ip, port = transport.get_extra_info("sockname")
    return server, f"{ip}:{port}"


def test_names_are_asked_of_the_nodes_servers_and_kept_as_long_as_they_live() -> None:
    async def main() -> None:
        server, place = await dns()
        now = [0.0]
        resolver = Resolver(lambda: now[0], (place,))
        both = await asyncio.gather(*(resolver.resolve("api.example.com") for _ in range(3)))
        assert both == [["192.0.2.7", "2001:db8::7"]] * 3
        assert len(server.asked) == 2, "who asks at once shares the look-up"
        now[0] = 59.0
        await resolver.resolve("API.example.com.")
        assert len(server.asked) == 2
        now[0] = 61.0
        assert await resolver.resolve("v4only.example.com") == ["192.0.2.7"]
        await resolver.resolve("api.example.com")
        assert len(server.asked) == 6

    run(main)


def test_a_server_that_refuses_is_followed_by_the_next_and_a_failure_is_kept_shortly() -> None:
    async def main() -> None:
        bad, bad_place = await dns()
        _, good_place = await dns()
        bad.rcode = RCODE.SERVFAIL
        now = [0.0]
        assert await Resolver(lambda: 0.0, (bad_place, good_place)).resolve("a.example") != []
        alone = Resolver(lambda: now[0], (bad_place,))
        for _ in range(2):
            with pytest.raises(Unresolved, match="SERVFAIL"):
                await alone.resolve("a.example")
        asked = len(bad.asked)
        bad.rcode, now[0] = RCODE.NOERROR, 3.0
        assert await alone.resolve("a.example") != []
        assert len(bad.asked) == asked + 2

    run(main)
