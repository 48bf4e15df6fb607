"""One workload on the loaded programs, fed packet by packet.

`send` runs one packet and tells what became of it: the program's answer, the counter that moved, the events. That
exactly one counter moved by one is checked on every packet that any test sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from testkit.bpf import Datapath
from weft.bpf import layout
from weft.bpf.layout import EventType, Reason
from weft.bpf.policytables import endpoint_flags
from weft.policies.model import Direction
from weft.policies.table import Key, MatchType, Table, Value, Verdict

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS

EP_ID: Final = 7
IFINDEX: Final = 1

#: Addresses of the stage: the workload, two other workloads, a stranger outside; by family.
POD: Final = {4: "10.244.1.5", 6: "fd00:10:244:1::5"}
PEER: Final = {4: "10.244.2.9", 6: "fd00:10:244:2::9"}
OTHER: Final = {4: "10.244.3.3", 6: "fd00:10:244:3::3"}
WORLD: Final = {4: "203.0.113.7", 6: "2001:db8::7"}

POD_ID, PEER_ID, OTHER_ID = 300, 400, 500
WORLD_ID: Final = {4: 9, 6: 10}

_PROGRAMS: Final = {EGRESS: "weft_from_workload", INGRESS: "weft_to_workload"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one packet. `reason` is that of the counter: OK when it passed."""

    passed: bool
    reason: Reason
    mark: int
    events: list[layout.Event] = field(repr=False)
    turned: bool = False  # sent in again elsewhere: to the proxy, or as a reset to who sent it
    packet: bytes = field(default=b"", repr=False)  # as the program left it

    def of(self, kind: EventType) -> list[layout.Event]:
        return [event for event in self.events if event.type == kind]

    @property
    def kinds(self) -> list[str]:
        return [EventType(event.type).name for event in self.events]


def packed(address: str) -> bytes:
    """As the maps hold it: 16 bytes, IPv4 in the first four."""
    return ip_address(address).packed.ljust(16, b"\0")


def allow(
    direction: Direction, identity: int = 0, protocol: int = 0, port: int = 0, bits: int | None = None, **more: int
) -> tuple[Key, Value]:
    return entry(Verdict.ALLOW, direction, identity, protocol, port, bits, **more)


def deny(
    direction: Direction, identity: int = 0, protocol: int = 0, port: int = 0, bits: int | None = None, **more: int
) -> tuple[Key, Value]:
    return entry(Verdict.DENY, direction, identity, protocol, port, bits, **more)


def entry(
    verdict: Verdict,
    direction: Direction,
    identity: int = 0,
    protocol: int = 0,
    port: int = 0,
    bits: int | None = None,
    *,
    cookie: int = 1,
    bypass: bool = False,
) -> tuple[Key, Value]:
    """`bits` None: 16, or 0 if there is no port."""
    width = bits if bits is not None else 16 if port else 0
    if port or width:
        match = MatchType.L3_L4 if identity else MatchType.L4_ONLY
    elif protocol:
        match = MatchType.L3_PROTO if identity else MatchType.PROTO_ONLY
    else:
        match = MatchType.L3_ONLY if identity else MatchType.ALL
    return Key(direction, identity, protocol, port, width), Value(verdict, match, cookie, bypass)


def _known() -> Iterator[tuple[str, int]]:
    for family, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
        yield everything, WORLD_ID[family]
        yield POD[family], POD_ID
        yield PEER[family], PEER_ID
        yield OTHER[family], OTHER_ID


class Stage:
    """The workload POD behind an interface, with no policy; PEER and OTHER known, the rest of the world not."""

    def __init__(self, datapath: Datapath, ifindex: int = IFINDEX) -> None:
        """`datapath`: cleared."""
        self.datapath, self.maps, self._ifindex = datapath, datapath.maps, ifindex
        self._policy_id = 0
        for prefix, number in _known():
            datapath.identify(prefix, number)
        self.endpoint()

    def endpoint(self, *, policy_id: int = 0, flags: int = 0, **more: int) -> None:
        value = layout.Endpoint(ep_id=EP_ID, identity=POD_ID, policy_id=policy_id, flags=flags, **more)
        value.ipv4[:] = ip_address(POD[4]).packed
        value.ipv6[:] = ip_address(POD[6]).packed
        self.maps.endpoints.put(self._ifindex, value)

    def policy(
        self, *entries: tuple[Key, Value], ingress: bool = True, egress: bool = True, bump: bool = True
    ) -> None:
        """A new table in force, as the daemon puts it: the table, the endpoint, then the revision. `ingress` and
        `egress`: whether the direction is enforced."""
        rules: Mapping[Key, Value] = dict(entries)
        self._policy_id += 1
        self.maps.policies.publish(self._policy_id, rules)
        table = Table(enforced_ingress=ingress, enforced_egress=egress, entries=rules, rule_sets={})
        self.endpoint(policy_id=self._policy_id, flags=endpoint_flags(table))
        if bump:
            self.datapath.bump()

    # the play

    def send(
        self, direction: Direction, packet: bytes, *, mark: int = 0, ifindex: int = IFINDEX, came_in: int = 0
    ) -> Seen:
        before = self.counted()
        self.datapath.events()
        outcome = self.datapath.run(_PROGRAMS[direction], packet, ifindex, mark, came_in)
        assert outcome.verdict in (layout.TC_PASS, layout.TC_DROP, layout.TC_REDIRECT), outcome.verdict
        moved = {key: count - before.get(key, 0) for key, count in self.counted().items()}
        moved = {key: count for key, count in moved.items() if count}
        ((way, reason), count) = next(iter(moved.items()))
        assert len(moved) == 1 and count == 1 and way == direction, moved
        turned = outcome.verdict == layout.TC_REDIRECT
        passed = reason == Reason.OK
        assert turned or passed == (outcome.verdict == layout.TC_PASS), (outcome.verdict, reason)
        return Seen(passed, Reason(reason), outcome.context.mark, self.datapath.events(), turned, outcome.packet)

    def egress(self, packet: bytes, **more: int) -> Seen:
        return self.send(EGRESS, packet, **more)

    def ingress(self, packet: bytes, **more: int) -> Seen:
        return self.send(INGRESS, packet, **more)

    def counted(self) -> dict[tuple[int, int], int]:
        """Packets by (direction, reason), over all endpoints."""
        counts: dict[tuple[int, int], int] = {}
        for key, value in self.maps.counters.items():
            counts[key.direction, key.reason] = counts.get((key.direction, key.reason), 0) + value.packets
        return counts

    def connections(self) -> list[tuple[layout.CtKey, layout.CtValue]]:
        return list(self.maps.ct.items())

    def connection(self) -> layout.CtValue:
        """The only one."""
        ((_, value),) = self.connections()
        return value

    def age(self, **nanoseconds: int) -> None:
        """Moves the times of every connection into the past: age(seen_ns=60 * 10**9)."""
        for key, value in self.connections():
            for name, past in nanoseconds.items():
                if name == "reported_ns":
                    value.reported_ns[:] = [max(time - past, 1) if time else 0 for time in value.reported_ns]
                else:
                    setattr(value, name, getattr(value, name) - past)
            self.maps.ct.put(key, value)
