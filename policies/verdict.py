"""What policy says of one flow, and why: the judgement behind `weft policy verdict`.

In: a World, two ends, a protocol and port, perhaps an HTTP request. Out: an Answer. A flow from a workload passes
that workload's egress, a flow to a workload passes its ingress; whoever is no workload judges nothing. The verdict
comes from the compiled tables that the kernel looks up; which rules it rests on is read with the oracle.

It says what policy says, whatever a node can carry: `redirected` is true where the flow goes to the proxy, whether
or not one runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from weft.policies import l7, wording
from weft.policies.l4 import Packet
from weft.policies.model import Direction, Protocol
from weft.policies.routed import Routed, Router
from weft.policies.sides import Http, Side, judge_http, judge_side, overall_reason
from weft.policies.snapshot import BackendItem, ServiceItem, ServicePortItem
from weft.policies.world import Kind, Party, World

#: Sides a Judge remembers, some 100 MB: a batch may be longer than memory.
REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Answer:
    """`to`: whom the port was judged on, for a Service one of its backends, or of those that its routes lead to.
    `backends`: of a Service, all answers; the rest is then that of the first backend that is denied, or of the
    first. `route`: where routes lead, of a Service that has some."""

    source: str
    to: str
    protocol: int
    port: int
    allowed: bool
    reason: str
    redirected: bool = False
    egress: Side | None = None
    ingress: Side | None = None
    http: Http | None = None
    service: str = ""
    backends: tuple[Answer, ...] = ()
    route: Routed | None = None


class Judge:
    """Judges flows in one World; remembers sides, since a batch asks the same again and again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._router = Router(world)
        self._sides: dict[tuple[str, Direction, int, object, str, int, int], Side] = {}

    def judge(
        self, source: str, to: str, protocol: Protocol, port: int, request: l7.Request | None = None
    ) -> Answer:
        """Names and addresses as in `World.find`. Raises Unknown."""
        start = self.world.find_source(source)
        end = self.world.find(to)
        if isinstance(end, ServiceItem):
            return self.judge_service(start, end, protocol, port, request)
        return self.judge_flow(start, end, protocol, port, request)

    def judge_flow(
        self, start: Party, end: Party, protocol: Protocol, port: int, request: l7.Request | None = None
    ) -> Answer:
        if start.endpoint is not None and start.endpoint is end.endpoint:
            why = "a workload reaches itself without leaving its network namespace"
            return Answer(start.label, end.label, protocol, port, True, why)
        start, end = _over(protocol, start), _over(protocol, end)
        egress = self.side(Direction.EGRESS, start, end, protocol, port)
        ingress = self.side(Direction.INGRESS, end, start, protocol, port)
        redirected = (egress.redirected or ingress.redirected) and egress.allowed and ingress.allowed
        http = None if request is None else judge_http((egress, ingress), request)
        allowed = egress.allowed and ingress.allowed and (http is None or http.allowed)
        reason = overall_reason(egress, ingress, http)
        return Answer(start.label, end.label, protocol, port, allowed, reason, redirected, egress, ingress, http)

    def judge_service(
        self, start: Party, service: ServiceItem, protocol: Protocol, port: int, request: l7.Request | None = None
    ) -> Answer:
        """Policy is judged on each ready backend and its target port; all must be allowed. Routes are followed."""
        label = f"Service {service.key}"
        routed = self._router.follow(start, service, port, request) if protocol is Protocol.TCP else None
        found, why = backends(service, protocol, port)
        if routed is not None and routed.origin is not None and _service_port(service, protocol, port):
            found, why = _led_to(routed, service)
            if routed.answer:
                fine = routed.status < 400
                why = f"{routed.origin} answers {routed.answer}"
                return Answer(
                    start.label, label, protocol, port, fine, why, True, service=service.key, route=routed
                )
        if not found:
            return Answer(start.label, label, protocol, port, False, why, service=service.key, route=routed)
        judged = (self.judge_flow(start, self._backend(b), protocol, b.port, request) for b in found)
        answers = tuple({(a.to, a.port, a.allowed, a.reason): a for a in judged}.values())  # both families as one
        denied = [answer for answer in answers if not answer.allowed]
        elsewhere = [answer for answer in answers if answer.egress is not None]
        shown = (denied or elsewhere or answers)[0]
        count = f"{len(answers)} backends" if len(answers) > 1 else "its one backend"
        reason = f"{shown.to}: {shown.reason}" if denied else f"{count}: {shown.reason}"
        if routed is not None and routed.origin is not None:
            reason = f"routed by {routed}; {reason}"
        redirected = routed is not None or any(answer.redirected for answer in answers)
        return Answer(
            start.label,
            label,
            protocol,
            port,
            not denied,
            reason,
            redirected,
            shown.egress,
            shown.ingress,
            shown.http,
            service.key,
            answers,
            routed,
        )

    def _backend(self, backend: BackendItem) -> Party:
        party = self.world.pod(backend.pod, backend.ip) if backend.ip in self.world.part.addresses else None
        found = party or self.world.at(backend.ip)
        return found if isinstance(found, Party) else Party(backend.ip, Kind.OUTSIDE, (backend.ip,))

    def side(self, direction: Direction, subject: Party, peer: Party, protocol: Protocol, port: int) -> Side:
        if subject.endpoint is None:
            return Side(direction, False, True, f"{subject.label} is no workload: nothing is judged there")
        number, view = self.world.seen(peer, subject)
        key = subject.endpoint.key, direction, number, view.address, peer.label, int(protocol), port
        if key not in self._sides:
            if len(self._sides) >= REMEMBERED:
                self._sides.clear()
            packet = Packet(
                direction, subject.endpoint.identity, view, protocol, port, subject.endpoint.named_ports
            )
            self._sides[key] = judge_side(self.world, subject.endpoint, peer.label, number, packet)
        return self._sides[key]


def _over(protocol: Protocol, party: Party) -> Party:
    """ICMP is spoken between addresses of its own family."""
    version = {Protocol.ICMP: 4, Protocol.ICMPV6: 6}.get(protocol)
    fitting = tuple(ip for ip in party.addresses if ip_address(ip).version == version)
    return replace(party, addresses=fitting) if fitting else party


def backends(service: ServiceItem, protocol: Protocol, port: int) -> tuple[list[BackendItem], str]:
    """Where a connection to the service's port may go; none: the reason. The name of a headless service gives its
    backends' addresses: a port that it does not declare is theirs as asked."""
    item = _service_port(service, protocol, port)
    if item is None and service.headless:
        ips = {b.ip: b for declared in service.ports for b in declared.backends}
        found = [BackendItem(ip, port, b.node, b.pod) for ip, b in ips.items()]
        return found, f"Service {service.key} has no ready backend"
    if item is None:
        has = ", ".join(wording.l4(p.protocol, p.port) for p in service.ports) or "none"
        return [], f"Service {service.key} has no port {wording.l4(protocol, port)} (it has {has})"
    why = f"Service {service.key} has no ready backend for {wording.l4(protocol, port)}"
    return _of_families(service, item.backends), why


def _led_to(routed: Routed, service: ServiceItem) -> tuple[list[BackendItem], str]:
    """The backends of all destinations; none: why the first one has none."""
    found = [b for target in routed.targets for b in _of_families(service, target.backends)]
    broken = next((target.why for target in routed.targets if target.why), "no backend is ready")
    return list(dict.fromkeys(found)), f"{routed.origin}: {broken}"


def _of_families(service: ServiceItem, found: Iterable[BackendItem]) -> list[BackendItem]:
    """A connection to an address of the Service ends at a backend's address of the same family."""
    families = {ip_address(ip).version for ip in service.cluster_ips}
    return [b for b in found if not families or ip_address(b.ip).version in families]


def _service_port(service: ServiceItem, protocol: Protocol, port: int) -> ServicePortItem | None:
    return next((p for p in service.ports if (p.protocol, p.port) == (protocol, port)), None)
