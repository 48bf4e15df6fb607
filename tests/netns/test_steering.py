"""The kernel's way to the L7 proxy and back, with a relay in its stead: real connections, both families.

a (300), b (301) --- node (Weft, relay) --- far (400), a host without Weft
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_lab import wait_for
from steering_lab import FAR, FAR_ID, SERVICE, A, B, SteeringLab, judged, plain, service
from weft.bpf import layout
from weft.bpf.layout import Reason, Stat
from weft.bpf.maps import Maps
from weft.policies.model import Direction

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
PORT = 8080
FAMILIES = [4, 6]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteeringLab]:
    with SteeringLab("wt-steer", tmp_path_factory.mktemp("steering")) as lab:
        lab.add_pod("a", A)
        lab.add_pod("b", B)
        lab.start_node()
        lab.declare()
        for pod in ("a", "b", "far"):
            lab.serve(pod, PORT)
        lab.order("prepare")
        lab.order("enable")
        yield lab


@pytest.fixture(autouse=True)
def afresh(lab: SteeringLab) -> Iterator[None]:
    yield
    lab.stop_proxy()
    lab.declare()


@pytest.fixture
def proxy(lab: SteeringLab) -> None:
    lab.run_proxy()


@pytest.fixture
def maps(lab: SteeringLab) -> Iterator[Maps]:
    with Maps.open(lab.pin_dir) as maps:
        maps.ct.clear()
        yield maps


def dropped(maps: Maps) -> dict[Reason, int]:
    counts: dict[Reason, int] = {}
    for key, value in maps.counters.items():
        if key.reason:
            counts[Reason(key.reason)] = counts.get(Reason(key.reason), 0) + value.packets
    return counts


#: Asks who it is to the server, holds the connection, and echoes a line for each line of input.
CLIENT = """
import socket, sys
try:
    conn = socket.create_connection(("{address}", {port}), timeout=3)
except OSError as error:
    print(type(error).__name__); sys.exit()
print(conn.getsockname()[0], conn.getpeername()[0], flush=True)
print(conn.getsockname()[1], flush=True)
for line in sys.stdin:
    try:
        conn.sendall(b"x")
        print("echo" if conn.recv(1) == b"x" else "closed", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""

#: Says who is there, then echoes.
TELLING_SERVER = """
import socket, threading
server = socket.create_server(("::", {port}), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
def serve(conn, peer):
    print(peer[0].removeprefix("::ffff:"), peer[1], flush=True)
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)
while True:
    threading.Thread(target=serve, args=server.accept(), daemon=True).start()
"""


class Client:
    """One connection from a pod, open until `close`."""

    def __init__(self, lab: SteeringLab, pod: str, address: str, port: int = PORT) -> None:
        self._process: subprocess.Popen[str] = lab.python(pod, CLIENT.format(address=address, port=port))
        self.opened = self._line()
        self.port = int(self._line() or 0)

    def asks(self) -> str:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(5)

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


def address(lab: SteeringLab, name: str, family: int) -> str:
    return FAR[family] if name == "far" else lab.ip(name, family)


def tell_who_comes(lab: SteeringLab, pod: str, port: int) -> subprocess.Popen[str]:
    server = lab.python(pod, TELLING_SERVER.format(port=port))
    assert server.stdout and server.stdout.readline() == "ready\n"
    return server


# --- where it goes, and with which addresses ----------------------------------------------------------------------

WAYS = {
    "the client's egress is judged, same node": ("a", "b", [judged("out", A, B, PORT, EGRESS)]),
    "the client's egress is judged, another node": ("a", "far", [judged("out", A, FAR_ID, PORT, EGRESS)]),
    "the server's ingress is judged, same node": ("a", "b", [judged("in", B, A, PORT, INGRESS)]),
    "the server's ingress is judged, another node": ("far", "b", [judged("in", B, FAR_ID, PORT, INGRESS)]),
    "both are judged, and one pass does": (
        *("a", "b"),
        [judged("out", A, B, PORT, EGRESS), judged("in", B, A, PORT, INGRESS)],
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_a_judged_connection_passes_the_proxy_once_with_its_addresses(
    lab: SteeringLab, proxy: None, way: str, family: int
) -> None:
    source, target, policies = WAYS[way]
    lab.declare(*policies)
    client = Client(lab, source, address(lab, target, family))
    mine, theirs = address(lab, source, family), address(lab, target, family)
    assert client.opened == f"{mine} {theirs}"
    assert [client.asks() for _ in range(20)] == ["echo"] * 20
    client.close()
    assert lab.stop_proxy() == [f"{mine} -> {theirs} {PORT}"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["b", "far"])
def test_the_server_sees_the_clients_address(lab: SteeringLab, proxy: None, target: str, family: int) -> None:
    server = tell_who_comes(lab, target, 8090 + family)
    identity = FAR_ID if target == "far" else B
    lab.declare(judged("out", A, identity, 8090 + family, EGRESS))
    client = Client(lab, "a", address(lab, target, family), 8090 + family)
    assert client.asks() == "echo"
    assert server.stdout
    seen, port = server.stdout.readline().split()
    assert seen == lab.ip("a", family) and 61000 <= int(port) <= 65535
    client.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_judged_does_not_meet_the_proxy(lab: SteeringLab, proxy: None, family: int) -> None:
    lab.declare(plain("out", A, B, PORT, EGRESS))
    assert lab.connects("a", lab.ip("b", family), PORT) == "ok"
    assert lab.stop_proxy() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_bulk_goes_through_whole(lab: SteeringLab, proxy: None, family: int) -> None:
    lab.declare(judged("out", A, FAR_ID, PORT, EGRESS))
    assert lab.python("a", BULK.format(address=FAR[family], port=PORT)).communicate(timeout=30)[0] == "same\n"


#: More than one window, in super packets.
BULK = """
import hashlib, os, socket, threading
sent = os.urandom(1 << 20) * 16
conn = socket.create_connection(("{address}", {port}), timeout=20)
threading.Thread(target=lambda: (conn.sendall(sent), conn.shutdown(socket.SHUT_WR))).start()
got = hashlib.sha256()
while data := conn.recv(1 << 20):
    got.update(data)
print("same" if got.digest() == hashlib.sha256(sent).digest() else "other")
"""


#: Lets go first, so the waiting is the proxy's.
CURT_SERVER = """
import socket
server = socket.create_server(("::", {port}), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    conn, _ = server.accept()
    conn.recv(1)
    conn.close()
"""

SAME_PORT = """
import socket, time
for _ in range(3):
    conn = socket.socket(socket.AF_INET6 if {family} == 6 else socket.AF_INET)
    conn.settimeout(0.9)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    conn.bind(("", {mine}))
    try:
        conn.connect(("{address}", {port}))
        conn.sendall(b"x")
        print("ended" if not conn.recv(1) else "odd")
    except OSError as error:
        print(error)
    conn.close()
    time.sleep(0.1)
"""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", [EGRESS, INGRESS])
def test_a_client_may_use_its_port_again_at_once(
    lab: SteeringLab, proxy: None, direction: Direction, family: int
) -> None:
    """As against a server without a proxy, whose end waits as well."""
    port = 8110 + family + 10 * direction
    server = lab.python("b", CURT_SERVER.format(port=port))
    assert server.stdout and server.stdout.readline() == "ready\n"
    subject, peer = (A, B) if direction is EGRESS else (B, A)
    lab.declare(judged("one", subject, peer, port, direction))
    code = SAME_PORT.format(family=family, mine=23456, address=lab.ip("b", family), port=port)
    assert lab.python("a", code).communicate(timeout=10)[0].splitlines() == ["ended"] * 3
    assert len(lab.stop_proxy()) == 3


# --- services -----------------------------------------------------------------------------------------------------


def web(lab: SteeringLab) -> dict[int, str]:
    return {family: lab.ip("b", family) for family in FAMILIES}


def led_to_b(lab: SteeringLab) -> None:
    lab.run_proxy(*(f"{SERVICE[f]}|80={lab.ip('b', f)}|{PORT}" for f in FAMILIES))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_routed_service_is_left_for_the_proxy(lab: SteeringLab, family: int) -> None:
    lab.declare(services=(service("web", web(lab)),))
    led_to_b(lab)
    client = Client(lab, "a", SERVICE[family], 80)
    assert client.opened == f"{lab.ip('a', family)} {SERVICE[family]}"
    assert client.asks() == "echo"
    client.close()
    assert lab.stop_proxy() == [f"{lab.ip('a', family)} -> {SERVICE[family]} 80"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_routed_services_pod_address_selects_it(lab: SteeringLab, proxy: None, family: int) -> None:
    lab.declare(services=(service("web", web(lab)),))
    assert lab.connects("a", lab.ip("b", family), PORT) == "ok"
    assert lab.stop_proxy() == [f"{lab.ip('a', family)} -> {lab.ip('b', family)} {PORT}"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_service_without_routes_stays_in_the_kernel(lab: SteeringLab, proxy: None, family: int) -> None:
    lab.declare(services=(service("web", web(lab)),), routes=False)
    assert lab.connects("a", SERVICE[family], 80) == "ok"
    assert lab.stop_proxy() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_nodes_own_sockets_are_balanced(lab: SteeringLab, proxy: None, family: int) -> None:
    """In the group whose sockets the programs see, but in the node's own namespace."""
    lab.declare(services=(service("web", web(lab)),))
    (lab.cgroup / "_host").mkdir(exist_ok=True)
    join = f'echo 0 > {lab.cgroup}/_host/cgroup.procs; exec python3 -c "$0"'
    code = "import socket; c = socket.create_connection(('{}', 80), 2); c.sendall(b'x'); print(c.recv(1))"
    code = code.format(SERVICE[family])
    assert lab.in_node("sh", "-c", join, code) == "b'x'\n"
    assert lab.stop_proxy() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_policy_is_judged_on_the_backend_and_not_on_the_services_address(lab: SteeringLab, family: int) -> None:
    """Nothing allows a to speak with 10.96.0.10; what the proxy connects to is judged at b."""
    lab.declare(
        plain("out", A, B, PORT, EGRESS), plain("in", B, A, PORT, INGRESS), services=(service("web", web(lab)),)
    )
    led_to_b(lab)
    assert lab.connects("a", SERVICE[family], 80) == "ok"
    lab.declare(plain("in", B, FAR_ID, PORT, INGRESS), services=(service("web", web(lab)),))
    assert lab.connects("a", SERVICE[family], 80) != "ok"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_open_connection_stays_with_the_proxy_when_routes_vanish(lab: SteeringLab, family: int) -> None:
    web_service = service("web", web(lab))
    lab.declare(services=(web_service,))
    led_to_b(lab)
    clients = [Client(lab, "a", SERVICE[family], 80), Client(lab, "a", lab.ip("b", family))]
    assert [client.asks() for client in clients] == ["echo", "echo"]
    lab.declare(services=(web_service,), routes=False)
    assert [client.asks() for client in clients] == ["echo", "echo"]
    assert lab.connects("a", SERVICE[family], 80) == "ok"
    for client in clients:
        client.close()
    assert len(lab.stop_proxy()) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_an_open_connection_stays_where_it_is_when_routes_appear(
    lab: SteeringLab, proxy: None, family: int
) -> None:
    client = Client(lab, "a", lab.ip("b", family))
    lab.declare(services=(service("web", web(lab)),))
    assert client.asks() == "echo"
    client.close()
    assert lab.stop_proxy() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forgotten_connection_is_known_by_the_proxys_socket(
    lab: SteeringLab, proxy: None, maps: Maps, family: int
) -> None:
    """What the map of connections has pushed out is steered as before, whichever leg it is."""
    lab.declare(judged("out", A, B, PORT, EGRESS), judged("in", B, A, PORT, INGRESS))
    client = Client(lab, "a", lab.ip("b", family))
    for _ in range(3):
        maps.ct.clear()
        assert client.asks() == "echo"
    flags = {value.state & (layout.CtFlag.TO_PROXY | layout.CtFlag.FROM_PROXY) for _, value in maps.ct.items()}
    assert flags == {layout.CtFlag.TO_PROXY, layout.CtFlag.FROM_PROXY}
    client.close()


# --- no proxy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_without_a_proxy_it_is_refused_at_once(lab: SteeringLab, maps: Maps, way: str, family: int) -> None:
    source, target, policies = WAYS[way]
    lab.declare(*policies)
    before = dropped(maps).get(Reason.NO_PROXY, 0)
    started = time.monotonic()
    assert lab.connects(source, address(lab, target, family), PORT, 5) == "refused"
    assert time.monotonic() - started < 2
    assert dropped(maps)[Reason.NO_PROXY] > before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_service_without_its_proxy_is_refused_and_others_do_not_notice(lab: SteeringLab, family: int) -> None:
    lab.declare(services=(service("web", web(lab)),))
    assert lab.connects("a", SERVICE[family], 80, 5) == "refused"
    assert lab.connects("a", FAR[family], PORT) == "ok"
    assert lab.connects("b", lab.ip("a", family), PORT) == "ok"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_proxys_connections_are_reset_and_come_back(lab: SteeringLab, proxy: None, family: int) -> None:
    lab.declare(judged("out", A, B, PORT, EGRESS))
    client, other = Client(lab, "a", lab.ip("b", family)), Client(lab, "b", lab.ip("a", family))
    assert (client.asks(), other.asks()) == ("echo", "echo")
    lab.stop_proxy()
    assert client.asks() in ("closed", "ConnectionResetError", "BrokenPipeError")
    assert other.asks() == "echo"
    lab.run_proxy()
    assert lab.connects("a", lab.ip("b", family), PORT) == "ok"
    for each in (client, other):
        each.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_proxy_that_is_switched_off_gets_nothing(lab: SteeringLab, proxy: None, family: int) -> None:
    lab.declare(judged("out", A, B, PORT, EGRESS))
    lab.order("disable")
    try:
        assert lab.connects("a", lab.ip("b", family), PORT, 5) == "refused"
    finally:
        lab.order("enable")
    assert lab.connects("a", lab.ip("b", family), PORT) == "ok"


# --- became judged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", [way for way in WAYS if "both" not in way])
def test_an_open_connection_that_is_judged_from_now_on_is_reset_and_comes_back(
    lab: SteeringLab, proxy: None, maps: Maps, way: str, family: int
) -> None:
    source, target, policies = WAYS[way]
    client = Client(lab, source, address(lab, target, family))
    assert client.asks() == "echo"
    before = maps.stats.get(Stat.BECAME_JUDGED) or 0
    lab.declare(*policies)
    assert client.asks() == "ConnectionResetError"
    assert (maps.stats.get(Stat.BECAME_JUDGED) or 0) > before and dropped(maps)[Reason.BECAME_JUDGED]
    assert lab.connects(source, address(lab, target, family), PORT) == "ok"
    client.close()
    assert len(lab.stop_proxy()) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_that_may_no_longer_be_is_cut_behind_the_proxy_too(
    lab: SteeringLab, proxy: None, family: int
) -> None:
    lab.declare(judged("out", A, B, PORT, EGRESS))
    client = Client(lab, "a", lab.ip("b", family))
    assert client.asks() == "echo"
    lab.declare(plain("out", A, FAR_ID, PORT, EGRESS))
    assert client.asks() == "TimeoutError"
    client.close()


# --- who lies -----------------------------------------------------------------------------------------------------

RAW = """
import socket, struct, sys, time
sys.path.insert(0, {support!r})
from testkit.packets import *
six = ":" in {to!r}
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
gateway = bytes.fromhex({mac!r})
mine = raw.getsockname()[4]
for flags in {flags!r}:
    built = ip({source!r}, {to!r}, tcp({sport}, {dport}, flags, b"forged"))
    data = bytearray(built.raw)
    if not six:  # the node that forwards it looks
        total = sum(struct.unpack("!10H", data[:20]))
        total = (total & 0xffff) + (total >> 16)
        data[10:12] = (~(total + (total >> 16)) & 0xffff).to_bytes(2, "big")
    raw.send(gateway + mine + built.ethertype.to_bytes(2, "big") + data)
print("sent")
"""


def forge(lab: SteeringLab, pod: str, ends: tuple[str, int], to: tuple[str, int], *flags: str) -> None:
    (link,) = json.loads(lab.in_node("ip", "-j", "link", "show", "uplink" if pod == "far" else f"w{pod}"))
    mac = link["address"].replace(":", "")
    support = str(Path(__file__).resolve().parents[1] / "support")
    code = RAW.format(
        support=support, source=ends[0], sport=ends[1], to=to[0], dport=to[1], mac=mac, flags=flags or ("A",)
    )
    assert lab.python(pod, code).communicate(timeout=10)[0] == "sent\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pods_own_mark_opens_nothing(lab: SteeringLab, proxy: None, family: int) -> None:
    """The mark says "from the proxy", and so would pass b's ingress unseen."""
    lab.declare(judged("in", B, A, PORT, INGRESS))
    code = MARKED.format(family=family, address=lab.ip("b", family), port=PORT)
    assert lab.python("a", code).communicate(timeout=10)[0] == "ok\n"
    assert lab.stop_proxy() == [f"{lab.ip('a', family)} -> {lab.ip('b', family)} {PORT}"]


MARKED = """
import socket
opened = socket.socket(socket.AF_INET6 if {family} == 6 else socket.AF_INET)
opened.setsockopt(socket.SOL_SOCKET, 36, 0x800)
opened.settimeout(3)
opened.connect(("{address}", {port}))
opened.sendall(b"x")
print("ok" if opened.recv(1) == b"x" else "closed")
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_cannot_answer_in_the_proxys_stead(lab: SteeringLab, proxy: None, maps: Maps, family: int) -> None:
    """b is the proxy's peer, and knows the client's end of the connection that was judged."""
    lab.declare(judged("in", B, A, PORT, INGRESS))
    client = Client(lab, "a", lab.ip("b", family))
    assert client.asks() == "echo"
    before = dropped(maps).get(Reason.NOT_THE_PROXY, 0)
    forge(lab, "b", (lab.ip("b", family), PORT), (lab.ip("a", family), client.port), "A", "RA")
    wait_for(lambda: dropped(maps).get(Reason.NOT_THE_PROXY, 0) == before + 2, 5)
    assert client.asks() == "echo"
    client.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["b", "far"])
def test_a_client_cannot_speak_behind_the_proxys_back(
    lab: SteeringLab, proxy: None, maps: Maps, target: str, family: int
) -> None:
    """a knows that the proxy speaks in its name, from a port that it can guess."""
    server = tell_who_comes(lab, target, 8100 + family)
    lab.declare(judged("out", A, FAR_ID if target == "far" else B, 8100 + family, EGRESS))
    client = Client(lab, "a", address(lab, target, family), 8100 + family)
    assert client.asks() == "echo" and server.stdout
    port = int(server.stdout.readline().split()[1])
    before = dropped(maps).get(Reason.NOT_THE_PROXY, 0)
    ends = (lab.ip("a", family), port), (address(lab, target, family), 8100 + family)
    forge(lab, "a", *ends, "A", "S", "R")
    wait_for(lambda: dropped(maps).get(Reason.NOT_THE_PROXY, 0) == before + 3, 5)
    assert client.asks() == "echo"
    client.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stranger_cannot_answer_for_a_service(lab: SteeringLab, maps: Maps, family: int) -> None:
    """Not even one on the same node: the service's address is not its own."""
    lab.declare(services=(service("web", {family: FAR[family] for family in FAMILIES}),))
    lab.run_proxy(*(f"{SERVICE[f]}|80={FAR[f]}|{PORT}" for f in FAMILIES))
    client = Client(lab, "a", SERVICE[family], 80)
    assert client.asks() == "echo"
    before = dropped(maps).get(Reason.SOURCE_IP, 0)
    forge(lab, "b", (SERVICE[family], 80), (lab.ip("a", family), client.port), "A", "RA")
    wait_for(lambda: dropped(maps).get(Reason.SOURCE_IP, 0) == before + 2, 5)
    assert client.asks() == "echo"
    client.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_comes_from_elsewhere_cannot_answer_for_the_proxy(lab: SteeringLab, maps: Maps, family: int) -> None:
    """far may bear any address; what it sends comes without the mark, and is not of this node."""
    lab.declare(services=(service("web", web(lab)),))
    led_to_b(lab)
    client = Client(lab, "a", SERVICE[family], 80)
    assert client.asks() == "echo"
    before = dropped(maps).get(Reason.NOT_THE_PROXY, 0)
    forge(lab, "far", (SERVICE[family], 80), (lab.ip("a", family), client.port), "A", "RA")
    wait_for(lambda: dropped(maps).get(Reason.NOT_THE_PROXY, 0) > before, 5)
    assert client.asks() == "echo"
    client.close()


@pytest.mark.parametrize("value", ["0", "1", "2"])
def test_reverse_path_filters_do_not_mind(lab: SteeringLab, proxy: None, value: str) -> None:
    """Whatever the node asks of sources: at weft-p0 they are anybody's."""
    for link in ("all", "wa", "wb", "uplink"):
        lab.in_node("sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter={value}")
    try:
        for source, identity in (("a", A), ("far", FAR_ID)):
            lab.declare(judged("in", B, identity, PORT, INGRESS))
            assert lab.connects(source, lab.ip("b"), PORT, 2) == "ok"
        lab.declare(judged("out", A, FAR_ID, PORT, EGRESS))
        assert lab.connects("a", FAR[4], PORT, 2) == "ok"
    finally:
        for link in ("all", "wa", "wb", "uplink"):
            lab.in_node("sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=0")


# --- what keeps it there ------------------------------------------------------------------------------------------


def test_preparing_twice_changes_nothing_and_what_is_lost_is_mended(lab: SteeringLab) -> None:
    assert lab.order("whole") is True
    breaks = ["ip rule del pref 101", "ip -6 route flush table 15001", "ip link del weft-p0"]
    for broken in breaks:
        lab.in_node(*broken.split())
        assert lab.order("whole") is False, broken
        lab.order("prepare")
        assert lab.order("whole") is True, broken


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mended_way_leads_to_the_proxy(lab: SteeringLab, proxy: None, family: int) -> None:
    lab.in_node("ip", "link", "del", "weft-p0")
    lab.order("prepare")
    lab.declare(judged("in", B, A, PORT, INGRESS))
    assert lab.connects("a", lab.ip("b", family), PORT) == "ok"
    assert len(lab.stop_proxy()) == 1


def test_retired_it_leaves_nothing_behind(lab: SteeringLab) -> None:
    lab.order("retire")
    left = lab.in_node("sh", "-c", "ip rule; ip -6 rule; ip route show table all; ip link")
    assert "15001" not in left and "0x800" not in left and "weft-p" not in left
    assert not list(lab.pin_dir.glob("link_proxy_*"))
    lab.order("prepare")
    lab.order("enable")
