"""Services: a socket asks for 10.96.0.20:80 and speaks to a backend, but is shown the service as its peer.

connect(10.96.0.20:80) --hook--> 127.0.0.1:4711       getpeername() <--hook-- 10.96.0.20:80
sendto(10.96.0.20:53)  --hook--> 127.0.0.1:4712       recvfrom()    <--hook-- 10.96.0.20:53
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from testkit import sockets
from testkit.bpf import Datapath
from testkit.packets import TCP, UDP
from testkit.sockets import Pod
from testkit.stage import packed
from weft.bpf import layout, links
from weft.bpf.abi import Attach
from weft.bpf.layout import Event, EventType, Reason, ServiceFlag, SockEvent, Stat

pytestmark = pytest.mark.root

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
KINDS = {TCP: STREAM, UDP: DGRAM}

SERVICE = {4: "10.96.0.20", 6: "fd00:10:96::20"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def net(port: int) -> int:
    return int.from_bytes(port.to_bytes(2, "big"), "little")


@pytest.fixture(scope="module")
def pod(loaded_datapath: Datapath) -> Iterator[Pod]:
    """In a cgroup with every hook attached."""
    with sockets.private_cgroup("balance") as cgroup, ExitStack() as stack:
        for name, (kind, where) in layout.PROGRAMS.items():
            if kind == "sched_cls":
                continue
            pin = loaded_datapath.pin_dir / f"link_{name}"
            links.attach_cgroup(loaded_datapath.programs[name], cgroup, Attach[where.upper()], pin)
            stack.callback(links.detach, pin)
        pod = Pod(cgroup / "pod")
        stack.callback(pod.close)
        yield pod


@dataclass(slots=True)
class Shop:
    """Services and backends, and the pod that asks for them."""

    datapath: Datapath
    pod: Pod
    ports: dict[int, int] = field(default_factory=dict)  # of backends, by their ids

    def backend(self, number: int, family: int, protocol: int, *, listens: bool = True) -> int:
        port = self.pod.call(sockets.serve, KINDS[protocol], LOOPBACK[family]) if listens else 9
        row = layout.Backend(family=family, port=net(port), protocol=protocol)
        row.addr[:] = packed(LOOPBACK[family])
        self.datapath.maps.backends.put(number, row)
        self.ports[number] = port
        return port

    def remove(self, number: int) -> None:
        self.datapath.maps.backends.delete(number)

    def service(
        self, family: int, port: int, protocol: int, backends: Sequence[int], *, flags: int = 0, service_id: int = 3
    ) -> None:
        """Slots first, then the service: so that no count promises a slot that is not there."""
        for slot, number in [*enumerate(backends, 1), (0, 0)]:
            key = layout.ServiceKey(family=family, port=net(port), protocol=protocol, slot=slot)
            key.addr[:] = packed(SERVICE[family])
            count = len(backends) if slot == 0 else 0
            self.datapath.maps.services.put(key, layout.ServiceValue(number, count, service_id, flags))

    def ask(
        self, family: int, port: int, kind: socket.SocketKind = STREAM, **more: bool
    ) -> tuple[tuple[str, int], int]:
        return self.pod.call(sockets.ask, kind, (SERVICE[family], port), **more)

    def refused(self, family: int, port: int, kind: socket.SocketKind = STREAM) -> int:
        with pytest.raises(OSError) as raised:
            self.ask(family, port, kind)
        assert raised.value.errno is not None
        return raised.value.errno

    def choices(self) -> list[Event]:
        events = self.datapath.events()
        return [event for event in events if (event.type, event.sub_type) == (EventType.SOCK, SockEvent.XLATE_FWD)]


@pytest.fixture
def shop(datapath: Datapath, pod: Pod) -> Iterator[Shop]:
    yield Shop(datapath, pod)
    pod.call(sockets.close_all)


# connect


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
def test_connect_reaches_a_backend_and_shows_the_service(shop: Shop, family: int, protocol: int) -> None:
    port = shop.backend(1, family, protocol)
    shop.service(family, 80, protocol, [1])
    assert shop.ask(family, 80, KINDS[protocol]) == ((SERVICE[family], 80), port)


@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
def test_an_ipv6_socket_may_ask_for_an_ipv4_service(shop: Shop, protocol: int) -> None:
    port = shop.backend(1, 4, protocol)
    shop.service(4, 80, protocol, [1])
    assert shop.ask(4, 80, KINDS[protocol], mapped=True) == ((f"::ffff:{SERVICE[4]}", 80), port)


def test_a_choice_word_for_word(shop: Shop) -> None:
    port = shop.backend(1, 6, TCP)
    shop.service(6, 80, TCP, [1], service_id=77)
    shop.ask(6, 80)
    (event,) = shop.choices()
    assert (event.family, event.protocol, event.direction) == (6, TCP, layout.Family.IPV6 and 1)
    assert (bytes(event.src), event.src_port) == (packed(SERVICE[6]), net(80))
    assert (bytes(event.dst), event.dst_port) == (packed(LOOPBACK[6]), net(port))
    assert (event.length, event.cookie) == (80, 77)
    assert event.socket_cookie and event.cgroup_id


def test_every_backend_has_its_share(shop: Shop) -> None:
    for number in (1, 2, 3):
        shop.backend(number, 4, TCP)
    shop.service(4, 80, TCP, [1, 2, 3])
    answers = Counter(shop.ask(4, 80)[1] for _ in range(90))
    assert set(answers) == set(shop.ports.values())
    assert min(answers.values()) > 10  # 30 each; 10 or fewer once in 100,000 runs


LEFT_ALONE = [
    ("another port", 81, TCP, 0),
    ("another protocol", 80, UDP, 0),
    ("the proxy's", 80, TCP, ServiceFlag.PROXY),
]


@pytest.mark.parametrize(
    ("port", "protocol", "flags"), [case[1:] for case in LEFT_ALONE], ids=[case[0] for case in LEFT_ALONE]
)
def test_what_is_not_asked_of_us_is_left_alone(shop: Shop, port: int, protocol: int, flags: int) -> None:
    shop.backend(1, 4, protocol)
    shop.service(4, port, protocol, [1], flags=flags)
    assert shop.refused(4, 80) == errno.ENETUNREACH
    assert shop.choices() == []


@pytest.mark.parametrize("family", [4, 6])
def test_the_nodes_own_sockets_are_balanced_where_workloads_leave_it_to_the_proxy(shop: Shop, family: int) -> None:
    """Here the pod's namespace is the node's."""
    port = shop.backend(1, family, TCP)
    shop.service(family, 80, TCP, [1], flags=ServiceFlag.PROXY)
    shop.datapath.maps.proxy.put(0, layout.Proxy(host_netns=shop.pod.call(sockets.netns_cookie)))
    assert shop.ask(family, 80) == ((SERVICE[family], 80), port)


def test_datagrams_are_never_left_to_the_proxy(shop: Shop) -> None:
    port = shop.backend(1, 4, UDP)
    shop.service(4, 80, UDP, [1], flags=ServiceFlag.PROXY)
    assert shop.ask(4, 80, KINDS[UDP]) == ((SERVICE[4], 80), port)
    opened = shop.pod.call(sockets.datagram_socket, 4)
    assert shop.pod.call(sockets.send, opened, (SERVICE[4], 80)) == ((SERVICE[4], 80), port)


def test_a_backends_own_address_is_nobodys_service(shop: Shop) -> None:
    """Its row has no backends, and refuses nobody: neither a workload nor the node."""
    shop.service(4, 80, TCP, [], flags=ServiceFlag.PROXY | ServiceFlag.BACKEND)
    assert shop.refused(4, 80) == errno.ENETUNREACH
    shop.datapath.maps.proxy.put(0, layout.Proxy(host_netns=shop.pod.call(sockets.netns_cookie)))
    assert shop.refused(4, 80) == errno.ENETUNREACH


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
def test_a_service_without_backends_refuses(shop: Shop, family: int, protocol: int) -> None:
    shop.service(family, 80, protocol, [])
    assert shop.refused(family, 80, KINDS[protocol]) == errno.EPERM
    (event,) = shop.datapath.events()
    assert (event.type, event.reason) == (EventType.DROP, Reason.NO_BACKEND)
    assert (bytes(event.dst), event.dst_port) == (packed(SERVICE[family]), net(80))
    counted = {
        (key.ep_id, key.direction, key.reason): value.packets for key, value in shop.datapath.maps.counters.items()
    }
    assert counted == {(0, 1, Reason.NO_BACKEND): 1}


def test_a_backend_that_is_gone_is_passed_over(shop: Shop) -> None:
    port = shop.backend(3, 4, TCP)
    shop.service(4, 80, TCP, [1, 2, 3, 4, 5])
    assert {shop.ask(4, 80)[1] for _ in range(10)} == {port}


def test_all_backends_gone(shop: Shop) -> None:
    shop.service(4, 80, TCP, [1, 2, 3])
    assert shop.refused(4, 80) == errno.EPERM


def test_a_backend_of_the_other_family_is_of_no_use(shop: Shop) -> None:
    shop.backend(1, 6, TCP)
    shop.service(4, 80, TCP, [1])
    assert shop.refused(4, 80) == errno.EPERM


# datagrams


@pytest.mark.parametrize("family", [4, 6])
def test_a_socket_that_turns_to_the_backend_itself_is_shown_the_backend(shop: Shop, family: int) -> None:
    port = shop.backend(1, family, UDP)
    shop.service(family, 80, UDP, [1])
    number = shop.pod.call(sockets.datagram_socket, family, (SERVICE[family], 80))
    assert shop.pod.call(sockets.peer, number) == (SERVICE[family], 80)
    shop.pod.call(sockets.connect, number, (LOOPBACK[family], port))
    assert shop.pod.call(sockets.peer, number) == (LOOPBACK[family], port)
    assert shop.pod.call(sockets.send, number) == ((LOOPBACK[family], port), port)


@pytest.mark.parametrize("family", [4, 6])
def test_a_connected_datagram_socket_keeps_its_backend(shop: Shop, family: int) -> None:
    for number in (1, 2, 3):
        shop.backend(number, family, UDP)
    shop.service(family, 53, UDP, [1, 2, 3])
    opened = shop.pod.call(sockets.datagram_socket, family, (SERVICE[family], 53))
    assert shop.pod.call(sockets.peer, opened) == (SERVICE[family], 53)
    answers = {shop.pod.call(sockets.send, opened) for _ in range(12)}
    assert len(answers) == 1
    ((source, _),) = answers
    assert source == (SERVICE[family], 53)
    assert len(shop.choices()) == 1


@pytest.mark.parametrize("family", [4, 6])
def test_a_socket_that_does_not_connect_keeps_its_backend_too(shop: Shop, family: int) -> None:
    for number in (1, 2, 3, 4):
        shop.backend(number, family, UDP)
    shop.service(family, 53, UDP, [1, 2, 3, 4])
    opened = shop.pod.call(sockets.datagram_socket, family)
    answers = {shop.pod.call(sockets.send, opened, (SERVICE[family], 53)) for _ in range(12)}
    assert len(answers) == 1
    ((source, _),) = answers
    assert source == (SERVICE[family], 53)
    assert len(shop.choices()) == 1


def test_an_ipv6_socket_may_send_to_an_ipv4_service(shop: Shop) -> None:
    port = shop.backend(1, 4, UDP)
    shop.service(4, 53, UDP, [1])
    opened = shop.pod.call(sockets.datagram_socket, 6)
    service = (f"::ffff:{SERVICE[4]}", 53)
    assert shop.pod.call(sockets.send, opened, service) == (service, port)


def test_other_sockets_have_other_backends(shop: Shop) -> None:
    for number in (1, 2):
        shop.backend(number, 4, UDP)
    shop.service(4, 53, UDP, [1, 2])
    opened = [shop.pod.call(sockets.datagram_socket, 4) for _ in range(20)]
    assert {shop.pod.call(sockets.send, number, (SERVICE[4], 53))[1] for number in opened} == set(
        shop.ports.values()
    )


def test_a_backend_that_moved_in_the_service_is_kept(shop: Shop) -> None:
    for number in (1, 2, 3, 4):
        shop.backend(number, 4, UDP)
    shop.service(4, 53, UDP, [1, 2, 3, 4])
    opened = shop.pod.call(sockets.datagram_socket, 4)
    _, before = shop.pod.call(sockets.send, opened, (SERVICE[4], 53))
    shop.service(4, 53, UDP, [4, 3, 2, 1])
    assert shop.pod.call(sockets.send, opened, (SERVICE[4], 53)) == ((SERVICE[4], 53), before)


@pytest.mark.parametrize("how", ["removed", "left the service"])
def test_a_socket_whose_backend_is_gone_gets_another(shop: Shop, how: str) -> None:
    for number in (1, 2):
        shop.backend(number, 4, UDP)
    shop.service(4, 53, UDP, [1, 2])
    opened = shop.pod.call(sockets.datagram_socket, 4)
    _, before = shop.pod.call(sockets.send, opened, (SERVICE[4], 53))
    gone, left = (1, 2) if shop.ports[1] == before else (2, 1)
    if how == "removed":
        shop.remove(gone)
    else:
        shop.service(4, 53, UDP, [left])
    shop.choices()
    assert shop.pod.call(sockets.send, opened, (SERVICE[4], 53)) == ((SERVICE[4], 53), shop.ports[left])
    assert len(shop.choices()) == 1


def test_what_comes_from_no_service_is_shown_as_it_is(shop: Shop) -> None:
    port = shop.pod.call(sockets.serve, DGRAM, LOOPBACK[4])
    opened = shop.pod.call(sockets.datagram_socket, 4)
    assert shop.pod.call(sockets.send, opened, (LOOPBACK[4], port)) == ((LOOPBACK[4], port), port)


def test_nothing_failed_to_be_remembered(shop: Shop) -> None:
    shop.backend(1, 4, TCP)
    shop.service(4, 80, TCP, [1])
    shop.ask(4, 80)
    assert shop.datapath.stat(Stat.REVERSE_FAILED) == 0


# sockets that open and close


def sock_events(datapath: Datapath) -> list[Event]:
    return [
        event
        for event in datapath.events()
        if event.type == EventType.SOCK and event.sub_type in (SockEvent.OPEN, SockEvent.CLOSE)
    ]


@pytest.mark.parametrize(
    ("client", "server"), [("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")], ids=["v4", "v6"]
)
def test_both_ends_of_a_connection_open_and_close(shop: Shop, client: str, server: str) -> None:
    port = shop.pod.call(sockets.serve, STREAM, server)
    shop.pod.call(sockets.ask, STREAM, (server, port), bind=client, payload=b"x" * 1000)
    events: list[Event] = []
    while len(events) < 4:  # the server's end closes in its own time
        events += sock_events(shop.datapath)
    opened = {event.direction: event for event in events if event.sub_type == SockEvent.OPEN}
    closed = {event.socket_cookie: event for event in events if event.sub_type == SockEvent.CLOSE}
    active, passive = opened[1], opened[0]
    assert (bytes(active.src), bytes(active.dst), active.dst_port) == (packed(client), packed(server), net(port))
    assert (bytes(passive.src), bytes(passive.dst), passive.src_port) == (packed(server), packed(client), net(port))
    sent, received = closed[active.socket_cookie], closed[passive.socket_cookie]
    assert (sent.direction, received.direction) == (1, 0)  # who connected is known to the end
    answer = len(str(port))
    assert (sent.bytes_sent, sent.bytes_received) == (1 + 1000 + 1, answer + 1)  # SYN and FIN take a number each
    assert (received.bytes_sent, received.bytes_received) == (answer + 1, 1000 + 1)
    assert sent.srtt_us > 0 and sent.retransmits == 0
    assert ip_address(client).version == active.family


def test_loopback_is_not_told(shop: Shop) -> None:
    for address in ("127.0.0.1", "::1", "10.9.0.1"):
        port = shop.pod.call(sockets.serve, STREAM, address)
        shop.pod.call(sockets.ask, STREAM, (address, port))
    assert sock_events(shop.datapath) == []


def test_a_closed_connection_leaves_nothing_to_show(shop: Shop) -> None:
    row = layout.Backend(family=4, port=net(shop.pod.call(sockets.serve, STREAM, "10.9.0.2")), protocol=TCP)
    row.addr[:] = packed("10.9.0.2")
    shop.datapath.maps.backends.put(1, row)
    shop.service(4, 80, TCP, [1])
    shop.pod.call(sockets.ask, STREAM, (SERVICE[4], 80), bind="10.9.0.1")
    events: list[Event] = []
    while sum(event.sub_type == SockEvent.CLOSE for event in events) < 2:
        events += sock_events(shop.datapath)
    assert list(shop.datapath.maps.reverse.items()) == []
