"""Who may reach a workload, and whom it may reach: the compiled table read aloud.

In: a World and a workload. Out: for each direction the peers that the table tells apart, with what they may do and
by which rules. A narrower port overrules a wider one, and what a peer's own lines do not answer, the line for
every peer does: exactly how the kernel reads the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft.policies import identity, wording
from weft.policies.cidr import contains
from weft.policies.l4 import default_deny
from weft.policies.model import CidrPeer, Direction, Network, ObjectRef, Origin
from weft.policies.ports import TYPED, Cell
from weft.policies.snapshot import EndpointItem, ResolvedSpec
from weft.policies.table import Key, Table, Value, Verdict
from weft.policies.world import World


@dataclass(frozen=True, slots=True)
class Line:
    """`ports` in words. `http`: what the L7 rules let through, empty where none apply."""

    ports: tuple[str, ...]
    verdict: Verdict
    rules: tuple[Origin, ...]
    http: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """Peers that the table treats alike; `who` by name, `identities` by number, 0 for every peer."""

    who: tuple[str, ...]
    identities: tuple[int, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Half:
    """One direction. Not `enforced`: whoever is not listed, and whatever is not, is allowed."""

    direction: Direction
    enforced: bool
    enforced_by: tuple[ObjectRef, ...]
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    name: str
    identity: int
    labels: tuple[str, ...]
    selected_by: tuple[ObjectRef, ...]
    halves: tuple[Half, ...]


def explain(world: World, endpoint: EndpointItem) -> Explanation:
    table = world.table(endpoint)
    selecting = world.selecting(endpoint.identity)
    item = world.part.identities.get(endpoint.identity)
    specs = [spec for _, spec in selecting]
    halves = []
    for direction in Direction:
        by = tuple(dict.fromkeys(item.ref for item, spec in selecting if default_deny(spec, direction)))
        halves.append(Half(direction, table.enforced(direction), by, _peers(world, table, direction, specs)))
    return Explanation(
        endpoint.key,
        endpoint.identity,
        item.labels.strings() if item else (),
        tuple(dict.fromkeys(item.ref for item, _ in selecting)),
        tuple(halves),
    )


def _peers(world: World, table: Table, direction: Direction, specs: Sequence[ResolvedSpec]) -> tuple[Peer, ...]:
    by_identity: dict[int, dict[Cell, Value]] = {}
    for key, value in table.entries.items():
        if key.direction is direction:
            by_identity.setdefault(key.identity, {})[_cell(key)] = value
    alike: dict[tuple[tuple[Cell, Value], ...], list[int]] = {}
    for number, cells in by_identity.items():
        alike.setdefault(_ordered(cells), []).append(number)
    peers = [
        Peer(tuple(name for n in sorted(ids) for name in names(world, n, ids)), tuple(sorted(ids)), lines)
        for cells, ids in alike.items()
        if (lines := _lines(cells, table, direction, specs))
    ]
    return tuple(sorted(peers, key=lambda peer: peer.identities))


def _cell(key: Key) -> Cell:
    return Cell(int(key.protocol), key.port, key.port_bits)


def _ordered(cells: dict[Cell, Value]) -> tuple[tuple[Cell, Value], ...]:
    return tuple(sorted(cells.items(), key=lambda pair: (pair[0].length, pair[0])))


def _lines(
    cells: Sequence[tuple[Cell, Value]], table: Table, direction: Direction, specs: Sequence[ResolvedSpec]
) -> tuple[Line, ...]:
    """Cells with one value make one line; the pieces of a range are put together again."""
    by_value: dict[Value, list[Cell]] = {}
    for cell, value in cells:
        by_value.setdefault(value, []).append(cell)
    found = []
    for value, of_value in by_value.items():
        rules = table.rule_sets.get(value.cookie, ())
        http = _http(rules, direction, specs) if value.verdict is Verdict.REDIRECT and not value.bypass else ()
        found.append(Line(tuple(ranges(of_value)), value.verdict, rules, http))
    return tuple(found)


def _http(rules: Sequence[Origin], direction: Direction, specs: Sequence[ResolvedSpec]) -> tuple[str, ...]:
    wanted = set(rules)
    found: dict[str, None] = {}
    for spec in specs:
        for rule in spec.rules:
            if rule.origin in wanted and rule.direction is direction and rule.l7 is not None:
                found.update(dict.fromkeys(wording.http(one) for one in rule.l7.http))
    return tuple(found)


def ranges(cells: Sequence[Cell]) -> list[str]:
    """`80-444/TCP` for the eight cells it takes; `every port and protocol`, `any/UDP`, `ICMPv4 type 8`."""
    out = ["every port and protocol"] if Cell(0, 0, 0) in cells else []
    by_protocol: dict[int, list[tuple[int, int]]] = {}
    for cell in sorted(cell for cell in cells if cell.protocol):
        spans = by_protocol.setdefault(cell.protocol, [])
        last = cell.port + (1 << (16 - cell.bits)) - 1
        if spans and spans[-1][1] + 1 == cell.port and cell.protocol not in TYPED:
            spans[-1] = spans[-1][0], last
        else:
            spans.append((cell.port, last))
    for protocol, spans in by_protocol.items():
        out += [_span(protocol, first, last) for first, last in spans]
    return out


def _span(protocol: int, first: int, last: int) -> str:
    if (first, last) == (0, 65535):
        return f"any/{wording.protocol_name(protocol)}"
    if first == last:
        return wording.l4(protocol, first)
    return f"{first}-{last}/{wording.protocol_name(protocol)}"


def names(world: World, number: int, together: Sequence[int] = ()) -> tuple[str, ...]:
    """Who has an identity: pods by name, a reserved name, a prefix. A prefix's number is not that of the longer
    ones inside it, so these are taken out, unless they are `together` with it."""
    if number == identity.ANY:
        return ("any peer",)
    if number in (identity.WORLD_IPV4, identity.WORLD_IPV6):
        return (f"{identity.RESERVED[number]}{_without(world, number, together)}",)
    if number in identity.RESERVED:
        return (identity.RESERVED[number],)
    if identity.is_local(number):
        return (f"{_prefix(world, number)}{_without(world, number, together)}",)
    return world.pods_of(number) or (f"identity {number}",)


def _prefix(world: World, number: int) -> Network:
    return next(prefix for prefix, known in world.cidrs.prefixes().items() if known == number)


def _without(world: World, number: int, together: Sequence[int]) -> str:
    whole = _prefix(world, number)
    inside = world.cidrs.matching(CidrPeer(whole)) - {number}
    longer = [_prefix(world, other) for other in inside]
    widest = [one for one in longer if not any(one != other and contains(other, one) for other in longer)]
    taken = sorted(str(one) for one in widest if world.cidrs.number(one) not in together)
    return f" without {wording.some(taken)}" if taken else ""
