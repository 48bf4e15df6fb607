"""Rules, peers and ports in words, as `policy verdict` and `policy explain` say them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from weft.policies.identity import RESERVED
from weft.policies.model import Direction, HttpRule, Origin, PortSpec, Protocol
from weft.policies.snapshot import ResolvedPeers
from weft.policies.table import MatchType
from weft.policies.world import World

PROTOCOLS = {Protocol.ICMP: "ICMPv4", Protocol.ICMPV6: "ICMPv6"}
MATCHES = {
    MatchType.NONE: "none",
    MatchType.L3_ONLY: "L3-Only",
    MatchType.L3_L4: "L3-L4",
    MatchType.L4_ONLY: "L4-Only",
    MatchType.ALL: "all",
    MatchType.L3_PROTO: "L3-Proto",
    MatchType.PROTO_ONLY: "Proto-Only",
}
#: How many names a sentence lists before it counts the rest.
NAMED = 3


def protocol_name(protocol: int) -> str:
    return PROTOCOLS.get(Protocol(protocol), Protocol(protocol).name)


def l4(protocol: int, port: int) -> str:
    """`80/TCP`, `ICMPv4 type 8`."""
    if protocol in PROTOCOLS:
        return f"{protocol_name(protocol)} type {port}"
    return f"{port}/{protocol_name(protocol)}"


def port(spec: PortSpec) -> str:
    """`80/TCP`, `80-90/TCP`, `http/ANY`, `any/UDP`, `ICMPv4 type 8`."""
    if spec.protocol in PROTOCOLS:
        return l4(spec.protocol, spec.port)
    numbers = str(spec.port) if spec.end_port <= spec.port else f"{spec.port}-{spec.end_port}"
    every = spec.port == 0 and spec.end_port == 0
    return f"{spec.name or ('any' if every else numbers)}/{protocol_name(spec.protocol)}"


def ports(specs: Sequence[PortSpec] | None) -> str:
    return "every port and protocol" if specs is None else ", ".join(port(spec) for spec in specs)


def origin(rule: Origin) -> str:
    """`CiliumNetworkPolicy default/x spec.ingress[0]`."""
    return f"{rule.ref} {rule.path}".rstrip()


def origins(rules: Iterable[Origin]) -> str:
    return some([origin(rule) for rule in rules])


def some(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    listed = ", ".join(names[:NAMED])
    return listed if len(names) <= NAMED else f"{listed} and {len(names) - NAMED} more"


def peers(meant: ResolvedPeers, world: World) -> str:
    """Whom a rule means, by the names they have now; "nobody" is a rule that allows nothing (S2, E3)."""
    if meant.any:
        return "any peer"
    names = [RESERVED[number] for number in sorted(meant.identities) if number in RESERVED]
    names += ["world"] if meant.world_ipv4 and meant.world_ipv6 and "world" not in names else []
    names += ["world-ipv4"] if meant.world_ipv4 and not meant.world_ipv6 else []
    names += ["world-ipv6"] if meant.world_ipv6 and not meant.world_ipv4 else []
    for cidr in meant.cidrs:
        without = f" except {', '.join(map(str, cidr.excepts))}" if cidr.excepts else ""
        names.append(f"{cidr.cidr}{without}")
    names += sorted({pod for number in meant.identities for pod in world.pods_of(number)})
    return some(names) if names else "nobody"


def http(rule: HttpRule) -> str:
    """`GET /public host=a.b header X-Token`, `any request`."""
    parts = [rule.method, rule.path]
    parts.append(f"host={rule.host}" if rule.host else "")
    wanted = [h for h in rule.headers if not h.mismatch]  # the others deny nothing
    parts += [f"header {h.name}" + (f": {h.value}" if h.value is not None else "") for h in wanted]
    return " ".join(part for part in parts if part) or "any request"


def direction(which: Direction) -> str:
    return which.name.lower()
