"""The way to the proxy, packet by packet. Here is no tc ingress, so no listener can be assigned: what is opened
through the proxy is for tests/netns/test_steering.py. What follows, what is refused and how, is here.

client (PEER) --- SYN ---> to_workload: turned round, to weft-p0 ---> weft_to_proxy: socket, listener, or reset
workload --- SYN ---> from_workload: socket, listener, or reset
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from testkit.packets import DESTINATION, TCP, UDP, Layer, extension, frame, ip, ipv4, tcp, udp
from testkit.stage import EGRESS, INGRESS, PEER, PEER_ID, POD, Stage, allow, deny, entry, packed
from weft.bpf import layout
from weft.bpf.layout import ConfigFlag, CtFlag, EventType, Reason, ServiceFlag, Stat
from weft.policies.table import Verdict

pytestmark = pytest.mark.root

OK, NO_PROXY, NOT_THE_PROXY = Reason.OK, Reason.NO_PROXY, Reason.NOT_THE_PROXY
BECAME_JUDGED, POLICY = Reason.BECAME_JUDGED, Reason.POLICY
MARK = 0x800
LISTENS, FIRST = 15001, 61000
CLIENT = 40000
FAMILIES = [4, 6]
SERVICE = {4: "10.96.0.1", 6: "fd00:10:96::1"}
TO, FROM = CtFlag.TO_PROXY, CtFlag.FROM_PROXY


def out(flags: str, mine: int, theirs: int, family: int, remote: dict[int, str] = PEER) -> bytes:
    return frame(ip(POD[family], remote[family], tcp(mine, theirs, flags)))


def into(flags: str, theirs: int, mine: int, family: int, remote: dict[int, str] = PEER) -> bytes:
    return frame(ip(remote[family], POD[family], tcp(theirs, mine, flags)))


@dataclass(slots=True)
class Proxied:
    """A stage on a node with a proxy."""

    stage: Stage

    def known(self, key: layout.CtKey, **fields: int) -> None:
        """A connection as the programs would have made it."""
        value = layout.CtValue(**fields)
        value.seen_ns = value.created_ns = time.monotonic_ns()
        value.revision = self._revision()
        self.stage.maps.ct.put(key, value)

    def opened(self, family: int, mine: int, theirs: int, origin: int, state: CtFlag, **fields: int) -> None:
        local, remote = fields.pop("local", POD[family]), fields.pop("remote", PEER[family])
        key = layout.CtKey(7, family, TCP, socket.htons(mine), socket.htons(theirs))
        key.local[:] = packed(str(local))
        key.remote[:] = packed(str(remote))
        fields = {"verdict": Verdict.REDIRECT, "match": 2, "cookie": 1} | fields
        self.known(key, origin=origin, state=state, **fields)

    def _revision(self) -> int:
        config = self.stage.maps.config.get(0)
        assert config is not None
        return int(config.revision)

    def serves(self, address: str, port: int, flags: ServiceFlag, protocol: int = TCP) -> None:
        family = ip_address(address).version
        key = layout.ServiceKey(family, protocol=protocol, port=socket.htons(port))
        key.addr[:] = packed(address)
        self.stage.maps.services.put(key, layout.ServiceValue(0, 0, 1, int(flags)))


@pytest.fixture
def proxied(stage: Stage) -> Proxied:
    stage.datapath.configure(flags=ConfigFlag.PROXY, proxy_mark=MARK)
    stage.maps.proxy.put(0, layout.Proxy(ifindex=1, port=LISTENS, first_port=FIRST))
    return Proxied(stage)


@pytest.fixture
def listener(stage: Stage) -> Iterator[None]:
    """As the proxy's, in the namespace that the programs are run in."""
    opened = stage.datapath.namespace.call(_listen)
    yield
    for each in opened:
        each.close()


def _listen(mark: int = MARK) -> list[socket.socket]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    opened = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        one = socket.socket(family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, LISTENS))
        one.listen()
        opened.append(one)
    return opened


# --- which flows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_listener_a_judged_connection_is_refused_with_a_reset(proxied: Proxied, family: int) -> None:
    stage = proxied.stage
    stage.policy(
        entry(Verdict.REDIRECT, EGRESS, PEER_ID, TCP, 80), entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80)
    )
    for seen in (stage.egress(out("S", CLIENT, 80, family)), stage.ingress(into("S", CLIENT, 80, family))):
        assert (seen.reason, seen.turned) == (NO_PROXY, True)
        (event,) = seen.of(EventType.DROP)
        assert event.reason == NO_PROXY
    assert stage.connections() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_server_a_judged_connection_is_turned_round_to_the_proxy(
    proxied: Proxied, listener: None, family: int
) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80))
    seen = stage.ingress(into("S", CLIENT, 80, family), came_in=3)
    assert seen.passed and seen.turned
    (trace,) = seen.of(EventType.TRACE)
    assert trace.sub_type == 1, "to the proxy"
    assert stage.connection().state & (TO | FROM) == TO
    assert stage.ingress(into("A", CLIENT, 80, family), came_in=3).turned


@pytest.mark.parametrize("mark", [0, 0x400])
def test_somebody_elses_listener_is_not_the_proxy(proxied: Proxied, mark: int) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80))
    opened = stage.datapath.namespace.call(_listen, mark)
    try:
        assert stage.ingress(into("S", CLIENT, 80, 4)).reason is NO_PROXY
    finally:
        for each in opened:
            each.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_routed_service_asks_for_the_proxy_before_any_policy(proxied: Proxied, family: int) -> None:
    stage = proxied.stage
    stage.policy()
    assert stage.egress(out("S", CLIENT, 80, family, SERVICE)).reason is POLICY
    proxied.serves(SERVICE[family], 80, ServiceFlag.PROXY)
    assert stage.egress(out("S", CLIENT, 80, family, SERVICE)).reason is NO_PROXY
    proxied.serves(PEER[family], 8080, ServiceFlag.PROXY | ServiceFlag.BACKEND)
    assert stage.egress(out("S", CLIENT, 8080, family)).reason is NO_PROXY


@pytest.mark.parametrize(
    ("says", "flags", "packet"),
    [
        ("a service without routes", ServiceFlag(0), tcp(CLIENT, 80, "S")),
        ("another port", ServiceFlag.PROXY, tcp(CLIENT, 81, "S")),
        ("UDP, whatever its row says", ServiceFlag.PROXY, udp(CLIENT, 80)),
        ("a packet in midstream", ServiceFlag.PROXY, tcp(CLIENT, 80, "A")),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_what_is_not_for_the_proxy(proxied: Proxied, says: str, flags: ServiceFlag, packet: Layer) -> None:
    proxied.serves(SERVICE[4], 80, flags)
    proxied.serves(SERVICE[4], 80, flags, UDP)
    assert proxied.stage.egress(frame(ip(POD[4], SERVICE[4], packet))).passed


def test_on_a_node_without_a_proxy_rows_of_services_mean_nothing(stage: Stage) -> None:
    Proxied(stage).serves(SERVICE[4], 80, ServiceFlag.PROXY)
    assert stage.egress(out("S", CLIENT, 80, 4, SERVICE)).passed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_proxy_that_is_down_is_no_way_round(proxied: Proxied, listener: None, family: int) -> None:
    """Its mark is nobody's then, and its connections get resets."""
    stage = proxied.stage
    stage.datapath.configure(proxy_mark=0)
    stage.policy(entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80))
    assert stage.ingress(into("S", CLIENT, 80, family)).reason is NO_PROXY
    assert stage.ingress(into("S", CLIENT + 1, 80, family), mark=MARK).reason is NO_PROXY
    proxied.serves(SERVICE[family], 80, ServiceFlag.PROXY)
    assert stage.egress(out("S", CLIENT, 80, family, SERVICE)).reason is NO_PROXY
    proxied.opened(family, CLIENT, 80, EGRESS, TO)
    assert stage.egress(out("A", CLIENT, 80, family)).reason is NO_PROXY


def test_udp_that_is_judged_has_no_proxy(proxied: Proxied, listener: None) -> None:
    proxied.stage.policy(entry(Verdict.REDIRECT, INGRESS, PEER_ID, UDP, 53))
    seen = proxied.stage.ingress(frame(ip(PEER[4], POD[4], udp(CLIENT, 53))))
    assert (seen.reason, seen.turned) == (NO_PROXY, False)


def test_in_audit_what_has_no_proxy_passes(proxied: Proxied) -> None:
    stage = proxied.stage
    stage.datapath.configure(flags=ConfigFlag.PROXY | ConfigFlag.AUDIT)
    stage.policy(entry(Verdict.REDIRECT, EGRESS, PEER_ID, TCP, 80))
    assert stage.egress(out("S", CLIENT, 80, 4)).passed


# --- whose packets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_proxy_opens_is_judged_but_not_sent_to_the_proxy_again(proxied: Proxied, family: int) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80))
    seen = stage.ingress(into("S", FIRST, 80, family), mark=MARK)
    assert seen.passed and not seen.turned
    assert stage.connection().state & (TO | FROM) == FROM
    assert stage.ingress(into("A", FIRST, 80, family), mark=MARK).passed
    stage.policy(deny(INGRESS, PEER_ID))
    assert stage.ingress(into("A", FIRST, 80, family), mark=MARK).reason is Reason.POLICY_DENY
    assert stage.ingress(into("S", FIRST + 1, 80, family), mark=MARK).reason is Reason.POLICY_DENY


def test_a_mark_from_elsewhere_is_not_the_proxys(proxied: Proxied) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80))
    assert stage.ingress(into("S", FIRST, 80, 4), mark=MARK, came_in=3).reason is NO_PROXY


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_else_speaks_in_a_connection_of_the_proxys(proxied: Proxied, family: int) -> None:
    stage = proxied.stage
    proxied.opened(family, CLIENT, 80, EGRESS, TO)
    assert stage.ingress(into("A", 80, CLIENT, family), came_in=3).reason is NOT_THE_PROXY
    assert stage.ingress(into("RA", 80, CLIENT, family)).reason is NOT_THE_PROXY
    assert stage.ingress(into("A", 80, CLIENT, family), mark=MARK).passed
    proxied.opened(family, 80, CLIENT, INGRESS, TO)
    assert stage.egress(out("A", 80, CLIENT, family)).reason is NOT_THE_PROXY
    proxied.opened(family, 80, FIRST, INGRESS, FROM)
    assert stage.ingress(into("A", FIRST, 80, family)).reason is NOT_THE_PROXY


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_to_the_proxy_that_nobody_takes_is_reset(proxied: Proxied, family: int) -> None:
    proxied.opened(family, 80, FIRST, INGRESS, FROM)
    seen = proxied.stage.egress(out("A", 80, FIRST, family))
    assert (seen.reason, seen.turned) == (NO_PROXY, True)


# --- what is known stays known ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_judged_connection_stays_the_proxys_when_policy_asks_for_it_no_more(
    proxied: Proxied, listener: None, family: int
) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, INGRESS, PEER_ID, TCP, 80))
    stage.ingress(into("S", CLIENT, 80, family), came_in=3)
    stage.policy(allow(INGRESS, PEER_ID, TCP, 80))
    assert stage.ingress(into("A", CLIENT, 80, family), came_in=3).turned
    assert not stage.ingress(into("S", CLIENT, 80, family), came_in=3).turned, "a new one is another's"
    stage.policy()
    assert stage.ingress(into("A", CLIENT, 80, family), came_in=3).reason is POLICY


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_left_to_the_proxy_is_not_judged_by_the_services_address(proxied: Proxied, family: int) -> None:
    """No policy knows it: who may go where the proxy judges."""
    stage = proxied.stage
    proxied.opened(family, CLIENT, 80, EGRESS, TO, match=0, cookie=0)
    stage.policy()
    assert stage.ingress(into("A", 80, CLIENT, family), mark=MARK).passed
    proxied.opened(family, CLIENT + 1, 80, EGRESS, TO)
    stage.policy()
    assert stage.ingress(into("A", 80, CLIENT + 1, family), mark=MARK).reason is POLICY


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", [EGRESS, INGRESS])
def test_an_open_connection_that_becomes_judged_is_reset(
    proxied: Proxied, listener: None, direction: int, family: int
) -> None:
    stage = proxied.stage
    stage.policy(allow(EGRESS), allow(INGRESS))
    opening = out("S", CLIENT, 80, family) if direction == EGRESS else into("S", CLIENT, 80, family)
    stage.send(direction, opening)
    stage.policy(entry(Verdict.REDIRECT, EGRESS), entry(Verdict.REDIRECT, INGRESS))
    there = out("A", CLIENT, 80, family) if direction == EGRESS else into("A", CLIENT, 80, family)
    back = into("A", 80, CLIENT, family) if direction == EGRESS else out("A", 80, CLIENT, family)
    for way, packet in ((direction, there), (1 - direction, back)):
        for _ in range(2):
            seen = stage.send(way, packet)
            assert (seen.reason, seen.turned) == (BECAME_JUDGED, True)
            assert [event.reason for event in seen.of(EventType.DROP)] == [BECAME_JUDGED]
    assert stage.datapath.stat(Stat.BECAME_JUDGED) == 4
    assert stage.connection().state & (TO | FROM) == 0


def test_a_reset_is_not_answered(proxied: Proxied) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, EGRESS))
    seen = stage.egress(out("R", CLIENT, 80, 4))
    assert (seen.passed, seen.turned) == (False, False)


# --- the reset ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    says: str
    packet: Layer
    flags: int
    sequence: int
    acknowledged: int


#: Of `tcp(...)`: sequence and acknowledgement are 1.
ANSWERS = [
    Answered("a SYN", tcp(CLIENT, 80, "S"), 0x14, 0, 2),
    Answered("a SYN with a payload", tcp(CLIENT, 80, "S", b"early"), 0x14, 0, 7),
    Answered("a SYN with options", tcp(CLIENT, 80, "S", b"\1" * 20, header_words=10), 0x14, 0, 2),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case.says)
def test_the_reset_answers(proxied: Proxied, case: Answered, family: int) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, EGRESS))
    assert_answers(stage.egress(frame(ip(POD[family], PEER[family], case.packet))).packet, case, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reset_of_an_open_connection_is_where_it_is_expected(proxied: Proxied, family: int) -> None:
    stage = proxied.stage
    proxied.opened(family, CLIENT, 80, EGRESS, TO)
    packet = tcp(CLIENT, 80, "AP", b"x" * 700)
    case = Answered("data", packet, 0x04, 1, 0)
    assert_answers(stage.egress(frame(ip(POD[family], PEER[family], packet))).packet, case, family)


def test_the_reset_keeps_options_of_the_network(proxied: Proxied) -> None:
    stage = proxied.stage
    stage.policy(entry(Verdict.REDIRECT, EGRESS))
    got = stage.egress(frame(ipv4(POD[4], PEER[4], tcp(CLIENT, 80, "S"), options=3))).packet
    assert got[14] == 0x48 and len(got) == 14 + 32 + 20
    assert_checksums(got, 4, 32, socket.inet_aton(PEER[4]) + socket.inet_aton(POD[4]))
    got = stage.egress(frame(ip(POD[6], PEER[6], extension(DESTINATION, tcp(CLIENT, 80, "S"))))).packet
    assert len(got) == 14 + 40 + 8 + 20
    assert_checksums(got, 6, 48, ip_address(PEER[6]).packed + ip_address(POD[6]).packed)


def assert_answers(got: bytes, case: Answered, family: int) -> None:
    head = 20 if family == 4 else 40
    assert len(got) == 14 + head + 20
    assert got[:12] == bytes.fromhex("02000000000a 02000000000b"), "turned round"
    size, at = (4, 12) if family == 4 else (16, 8)
    source, target = got[14 + at : 14 + at + size], got[14 + at + size : 14 + at + 2 * size]
    assert (source, target) == (ip_address(PEER[family]).packed, ip_address(POD[family]).packed)
    assert_checksums(got, family, head, source + target)
    fields = struct.unpack("!HHIIBBHHH", got[14 + head :])
    assert fields[:2] == (80, CLIENT)
    assert fields[2:6] == (case.sequence, case.acknowledged, 0x50, case.flags)


def assert_checksums(got: bytes, family: int, head: int, addresses: bytes) -> None:
    segment = got[14 + head :]
    pseudo = addresses + struct.pack("!HH", TCP, len(segment))
    assert ones(pseudo + segment) == 0xFFFF
    if family == 4:
        assert struct.unpack_from("!H", got, 16)[0] == head + 20


def ones(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


# --- at weft-p0 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_what_nobody_takes_at_weft_p0_goes_back_as_a_reset(proxied: Proxied, family: int) -> None:
    stage = proxied.stage
    ran = stage.datapath.run("weft_to_proxy", into("S", CLIENT, 80, family), mark=MARK | 1)
    assert ran.verdict == layout.TC_PASS and ran.context.mark == 1
    case = Answered("", tcp(CLIENT, 80, "S"), 0x14, 0, 2)
    source = ran.packet[26:30] if family == 4 else ran.packet[22:38]
    assert source == ip_address(POD[family]).packed
    assert struct.unpack("!HHII", ran.packet[14 + (20 if family == 4 else 40) :][:12])[2:] == (0, case.acknowledged)
    assert stage.datapath.stat(Stat.PROXY_RESET) == 1


@pytest.mark.parametrize(
    "packet",
    [into("R", CLIENT, 80, 4), frame(ip(PEER[4], POD[4], udp(1, 2))), frame(ip(PEER[4], POD[4], tcp(1, 2)))[:40]],
    ids=["a reset", "udp", "cut off"],
)
def test_what_can_be_nobodys_at_weft_p0_is_dropped(proxied: Proxied, packet: bytes) -> None:
    assert proxied.stage.datapath.run("weft_to_proxy", packet).verdict == layout.TC_DROP


def test_a_fragment_for_the_proxy_bears_the_mark_and_is_put_together_behind_it(proxied: Proxied) -> None:
    ran = proxied.stage.datapath.run(
        "weft_to_proxy", frame(ipv4(PEER[4], POD[4], tcp(1, 2, "A", b"x" * 24), more=1))
    )
    assert ran.verdict == layout.TC_PASS and ran.context.mark == MARK
