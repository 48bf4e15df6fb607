"""`loadBalancer` of a traffic policy: how a backend is chosen, sticky or not, near or far, warm or new."""

from __future__ import annotations

from itertools import combinations

from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.istio.values import duration, header_name, number, text_of
from weft.policies.dialects.metadata import check_label_key
from weft.policies.mesh.model import Balance, HashKey, LoadBalancer, Locality, Warmup

_SIMPLE = {
    "UNSPECIFIED": Balance.LEAST_REQUEST,
    "LEAST_CONN": Balance.LEAST_REQUEST,
    "LEAST_REQUEST": Balance.LEAST_REQUEST,
    "ROUND_ROBIN": Balance.ROUND_ROBIN,
    "RANDOM": Balance.RANDOM,
    "PASSTHROUGH": Balance.PASSTHROUGH,
}
_KEYS = ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName")
#: Envoy's bound of a Maglev table; a ring has at most as many entries.
_MAX_TABLE, _MAX_RING = 5_000_011, 8 << 20
#: Localities that one setting may speak of: they are compared with each other.
_MAX_PLACES = 256


def load_balancer(field: Field, findings: Findings) -> LoadBalancer:
    field.record("simple", "consistentHash", "localityLbSetting", "warmupDurationSecs", "warmup")
    simple, sticky, locality = field.get("simple"), field.get("consistentHash"), field.get("localityLbSetting")
    if simple is not None and sticky is not None:
        raise sticky.invalid("simple and consistentHash exclude each other")
    balance = _SIMPLE[simple.one_of(_SIMPLE)] if simple is not None else Balance.LEAST_REQUEST
    if simple is not None and simple.value == "LEAST_CONN":
        findings.warn(simple, "LEAST_CONN is deprecated and means LEAST_REQUEST")
    key = _hash_key(sticky, findings) if sticky is not None else None
    if sticky is not None:
        balance = Balance.HASH if key is not None else Balance.RANDOM
    warmup = _warmup(field, findings)
    if warmup is not None and balance not in (Balance.LEAST_REQUEST, Balance.ROUND_ROBIN):
        findings.warn(field, "warm-up has an effect with LEAST_REQUEST and ROUND_ROBIN alone")
        warmup = None
    return LoadBalancer(balance, key, warmup, _locality(locality) if locality is not None else None)


def _hash_key(field: Field, findings: Findings) -> HashKey | None:
    field.record(*_KEYS, "minimumRingSize", "ringHash", "maglev")
    given = [(name, found) for name in _KEYS if (found := field.get(name)) is not None]
    if len(given) > 1:
        raise field.invalid(f"{' and '.join(name for name, _ in given)} exclude each other")
    maglev, table, ring = _algorithm(field)
    if not given or given[0][1].value is False:
        findings.warn(field, "names nothing to hash, so backends are chosen at random")
        return None
    name, value = given[0]
    header = query = cookie = path = ""
    ttl = None
    if name == "httpHeaderName":
        header = header_name(value, value.text())
    elif name == "httpQueryParameterName":
        query = value.text()
    elif name == "httpCookie":
        cookie, path, ttl = _cookie(value)
    else:
        value.boolean()
    by_address = name == "useSourceIp"
    return HashKey(header, cookie, path, ttl, by_address, query, maglev, ring, table)


def _algorithm(field: Field) -> tuple[bool, int, int]:
    """(Maglev, its table's size, the ring's size)."""
    ring, maglev, old = field.get("ringHash"), field.get("maglev"), field.get("minimumRingSize")
    if ring is not None and maglev is not None:
        raise maglev.invalid("ringHash and maglev exclude each other")
    size = ring.record("minimumRingSize").get("minimumRingSize") if ring is not None else old
    table = maglev.record("tableSize").get("tableSize") if maglev is not None else None
    entries = (table.integer(0, _MAX_TABLE) if table is not None else 0) or HashKey().table_size
    if table is not None and not _prime(entries):
        raise table.invalid(f"{entries} is no prime number")
    return (
        maglev is not None,
        entries,
        (size.integer(0, _MAX_RING) if size is not None else 0) or HashKey().ring_size,
    )


def _prime(value: int) -> bool:
    return value > 1 and all(value % each for each in range(2, int(value**0.5) + 1))


def _cookie(field: Field) -> tuple[str, str, float | None]:
    field.record("name", "path", "ttl", "attributes")
    name, ttl, attributes = field.need("name"), field.get("ttl"), field.get("attributes")
    if attributes is not None:
        raise attributes.invalid("attributes of a sticky cookie", not_enforced=True)
    path = text_of(field, "path")
    if any(sign in ";,\x7f" or sign <= " " for sign in path):
        raise field.need("path").invalid(f"{shown(path)} can stand in no cookie")
    header_name(name, name.text())  # a token, too
    return name.text(), path, duration(ttl, zero=True) if ttl is not None else None


def _warmup(field: Field, findings: Findings) -> Warmup | None:
    """`warmupDurationSecs` is the old form."""
    given, old = field.get("warmup"), field.get("warmupDurationSecs")
    if given is None:
        return Warmup(duration(old)) if old is not None else None
    given.record("duration", "minimumPercent", "aggression")
    if old is not None:
        findings.warn(old, "is ignored: warmup holds")
    minimum, aggression = given.get("minimumPercent"), given.get("aggression")
    return Warmup(
        duration(given.need("duration")),
        number(minimum, 0, 100) if minimum is not None else 10.0,
        number(aggression, 1, 1e6) if aggression is not None else 1.0,
    )


# Locality


def _locality(field: Field) -> Locality:
    field.record("enabled", "distribute", "failover", "failoverPriority")
    enabled, priority = field.get("enabled"), field.get("failoverPriority")
    distribute, failover = _list(field, "distribute"), _list(field, "failover")
    if distribute and (failover or priority is not None):
        raise field.need("distribute").invalid("distribute excludes failover and failoverPriority")
    found = Locality(
        enabled=enabled.boolean() if enabled is not None else None,
        distribute=tuple(_distribution(item) for item in distribute),
        failover=tuple(_failover(item) for item in failover),
        priority=tuple(_label(item) for item in priority.items()) if priority is not None else (),
    )
    _check_distinct(field, [source for source, _ in found.distribute], "distribute")
    return found


def _list(field: Field, name: str) -> list[Field]:
    found = field.get(name)
    return found.items(at_most=_MAX_PLACES) if found is not None else []


def _label(field: Field) -> str:
    """`key`, or `key=value`."""
    text = field.text()
    check_label_key(field, text.partition("=")[0])
    return text


def _distribution(item: Field) -> tuple[str, tuple[tuple[str, int], ...]]:
    to = item.record("from", "to").need("to")
    shares = tuple((_place(value, name), value.integer(1, 100)) for name, value in to.entries())
    if sum(share for _, share in shares) != 100:
        raise to.invalid("the shares must add up to 100")
    _check_distinct(to, [name for name, _ in shares], "the targets")
    source = item.need("from")
    return _place(source, source.text()), shares


def _failover(item: Field) -> tuple[str, str]:
    source, to = item.record("from", "to").need("from"), item.need("to")
    pair = source.text(), to.text()
    for each, name in zip((source, to), pair, strict=True):
        if "*" in name or "/" in name:
            raise each.invalid(f"{shown(name)}: a region alone, without zones and '*'")
    if pair[0] == pair[1]:
        raise to.invalid("is the region that it fails over from")
    return pair


def _place(field: Field, text: str) -> str:
    """`region/zone/sub-zone`, `*` for the rest of it."""
    parts = text.split("/")
    if (
        not text
        or len(parts) > 3
        or not all(parts)
        or any("*" in part for part in parts[:-1])
        or ("*" in parts[-1] and parts[-1] != "*")
    ):
        raise field.invalid(f"{shown(text)} is no locality: region[/zone[/sub-zone]], '*' at the end for any")
    return text


def _check_distinct(field: Field, places: list[str], what: str) -> None:
    for one, other in combinations(places, 2):
        if one == other or _within(one, other) or _within(other, one):
            raise field.invalid(f"{what}: {one} and {other} overlap")


def _within(inner: str, outer: str) -> bool:
    """Whether all of one place lies in the other."""
    bare = outer.removesuffix("*").removesuffix("/")
    return not bare or inner == bare or inner.startswith(bare + "/")
