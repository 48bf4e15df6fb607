"""CiliumNetworkPolicy, its clusterwide form, and Weft's own kinds of the same schema: documents to `model.Policy`.

Every field of the schema is read and checked; an unknown one is refused, so that a misspelt field never makes a
policy wider or narrower than it reads. What an entry says about whom is in `peers`, about which ports in `ports`,
about requests in `l7`; this file has what holds them together: specs, entries, default deny.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from weft.policies.dialects.cidrs import prefix
from weft.policies.dialects.fields import Field, Findings, shown
from weft.policies.dialects.l7 import FIELDS as L7_FIELDS
from weft.policies.dialects.l7 import l7_rules
from weft.policies.dialects.metadata import labels_of
from weft.policies.dialects.peers import Scope, member_names, peers
from weft.policies.dialects.ports import icmp_list, port_list
from weft.policies.dialects.selectors import cilium_key, label_selector, selects_init, subject_selector
from weft.policies.labels import Selector
from weft.policies.model import (
    L7,
    Action,
    Direction,
    HttpRule,
    ObjectRef,
    Origin,
    Peer,
    Policy,
    PortSpec,
    Rule,
    Spec,
)
from weft.policies.objects import CidrGroup

MAX_LOG_VALUE = 32
_AUTHENTICATION = ("disabled", "required", "test-always-fail")
_SECTIONS = (
    ("ingress", Direction.INGRESS, Action.ALLOW),
    ("ingressDeny", Direction.INGRESS, Action.DENY),
    ("egress", Direction.EGRESS, Action.ALLOW),
    ("egressDeny", Direction.EGRESS, Action.DENY),
)
_OTHER = ("endpointSelector", "nodeSelector", "enableDefaultDeny", "labels", "description", "log")


def parse_policy(root: Field, ref: ObjectRef) -> Policy:
    root.record("apiVersion", "kind", "metadata", "spec", "specs", "status")
    findings = Findings()
    single, several = root.get("spec"), root.get("specs")
    fields = [*([single] if single is not None else []), *(several.items() if several is not None else [])]
    if not fields:
        raise root.invalid("needs a spec, or specs with at least one")
    labels = _derived_labels(root, ref)
    specs = []
    for each in fields:
        specs.append(_spec(each, ref, findings))
        labels.update(dict.fromkeys(_own_labels(each)))
    findings.settle()
    return Policy(ref, tuple(specs), tuple(labels), findings.warnings)


def parse_cidr_group(root: Field, ref: ObjectRef) -> CidrGroup:
    root.record("apiVersion", "kind", "metadata", "spec", "status")
    cidrs = root.need("spec").record("externalCIDRs").need("externalCIDRs")
    networks = (prefix(item, Findings()) for item in cidrs.items())
    return CidrGroup(ref.name, labels_of(root), tuple(dict.fromkeys(map(str, networks))))


def _derived_labels(root: Field, ref: ObjectRef) -> dict[str, None]:
    """In order, each once: what flows show as the policy's labels."""
    pairs = {"derived-from": ref.kind, "name": ref.name, "namespace": ref.namespace}
    uid = root.need("metadata").lax("uid")
    if uid is not None:
        pairs["uid"] = uid.string()
    return {f"k8s:io.cilium.k8s.policy.{key}={value}": None for key, value in pairs.items() if value}


def _own_labels(spec: Field) -> list[str]:
    """`labels` of a rule: shown in flows beside the derived ones."""
    labels = spec.get("labels")
    found = []
    for item in labels.items() if labels is not None else ():
        item.record("key", "value", "source")
        value, source = item.get("value"), item.get("source")
        key = item.need("key").text()
        origin = (source.string() if source is not None else "") or "unspec"
        text = f"{origin}:{key}"
        found.append(f"{text}={value.string()}" if value is not None and value.string() else text)
    return found


def _spec(spec: Field, ref: ObjectRef, findings: Findings) -> Spec:
    spec.record(*(name for name, _, _ in _SECTIONS), *_OTHER)
    subject = _subject(spec, ref, findings)
    scope = Scope(ref.namespace, selects_init(subject), findings)
    reader, rules, directions = _EntryReader(ref, scope), list[Rule](), set[Direction]()
    for name, direction, action in _SECTIONS:
        section = spec.get(name)
        for entry in section.items() if section is not None else ():
            rules += reader.rules(entry, direction, action)
            directions.add(direction)
    if not rules:
        raise spec.invalid("needs at least one entry in ingress, ingressDeny, egress or egressDeny")
    ingress, egress = _default_deny(spec, directions)
    enforced = {Direction.INGRESS: ingress, Direction.EGRESS: egress}
    description = spec.get("description")
    if description is not None:
        description.string(max_length=1 << 20)
    return Spec(
        subject=subject,
        default_deny_ingress=ingress,
        default_deny_egress=egress,
        rules=tuple(rule if enforced[rule.direction] else _with_l7_wildcard(rule) for rule in rules),
        log=_log(spec),
    )


def _subject(spec: Field, ref: ObjectRef, findings: Findings) -> Selector:
    endpoints, nodes = spec.get("endpointSelector"), spec.get("nodeSelector")
    if endpoints is not None and nodes is not None:
        raise nodes.invalid("endpointSelector and nodeSelector exclude each other")
    if nodes is not None:
        if ref.namespace:
            raise nodes.invalid(f"a {ref.kind} is about endpoints: nodeSelector is for clusterwide policies")
        findings.not_enforced(nodes, "nodeSelector (host policy)")
        return label_selector(nodes, cilium_key)
    if endpoints is None:
        raise spec.invalid("needs an endpointSelector; {} selects every endpoint")
    return subject_selector(endpoints, ref.namespace, findings)


def _default_deny(spec: Field, directions: set[Direction]) -> tuple[bool, bool]:
    """A direction that has entries is denied by default unless the spec says otherwise (E2, E5, E9)."""
    found = [Direction.INGRESS in directions, Direction.EGRESS in directions]
    switches = spec.get("enableDefaultDeny")
    if switches is not None:
        switches.record("ingress", "egress")
        for index, name in enumerate(("ingress", "egress")):
            switch = switches.get(name)
            if switch is not None:
                found[index] = switch.boolean()
    return found[0], found[1]


def _with_l7_wildcard(rule: Rule) -> Rule:
    """Where default deny is off, an L7 rule must not forbid the requests it does not name (E7)."""
    if rule.l7 is None:
        return rule
    return replace(rule, l7=L7((*rule.l7.http, HttpRule(spec_path=rule.origin.path))))


def _log(spec: Field) -> str:
    log = spec.get("log")
    value = log.record("value").get("value") if log is not None else None
    if value is None:
        return ""
    text = value.string(max_length=MAX_LOG_VALUE)
    if not text.isprintable():
        raise value.invalid(f"{shown(text)} has characters that cannot be printed")
    return text


@dataclass(slots=True)
class _EntryReader:
    """Reads the entries of one spec. `parsers` remembers which L7 parser each (direction, peers, port) has: a
    second one on the same is an error (L10)."""

    ref: ObjectRef
    scope: Scope
    parsers: dict[tuple[Direction, tuple[Peer, ...] | None, PortSpec], str] = field(default_factory=dict)

    def rules(self, entry: Field, direction: Direction, action: Action) -> list[Rule]:
        """One entry is one rule for each of its port rules that has L7 rules, and one for all the others."""
        deny = action is Action.DENY
        more = ("toPorts", "icmps") if deny else ("toPorts", "icmps", "authentication")
        entry.record(*member_names(direction, deny=deny), *more)
        if not deny:
            self._authentication(entry)
        whom = peers(entry, direction, self.scope)
        origin = Origin(self.ref, entry.path)
        parts = self._ports(entry, direction, whom, deny=deny)
        if parts is None:
            # neither L3 nor L4: the section is there and the entry matches nothing (E3, S5)
            return [Rule(origin, direction, action, whom if whom is not None else ())]
        if not parts:
            return [Rule(origin, direction, action, ())]
        return [Rule(origin, direction, action, whom, ports, l7) for ports, l7 in parts]

    def _ports(
        self, entry: Field, direction: Direction, whom: tuple[Peer, ...] | None, *, deny: bool
    ) -> list[tuple[tuple[PortSpec, ...], L7 | None]] | None:
        """Each set of ports with its L7 rules. None: the entry names no ports at all (P7). Empty: it has port
        rules that name none, so it matches nothing."""
        to_ports, icmps = entry.get("toPorts"), entry.get("icmps")
        rules = to_ports.items() if to_ports is not None else []
        types = icmps.items() if icmps is not None else []
        for given, items in ((to_ports, rules), (icmps, types)):
            if given is not None and not items:
                self.scope.findings.warn(given, "is an empty list, which is the same as leaving it out")
        if icmps is not None and rules and types:
            raise icmps.invalid("icmps and toPorts exclude each other: write two entries")
        if not rules and not types:
            return None
        plain: dict[PortSpec, None] = dict.fromkeys(icmp_list(icmps) if icmps is not None else ())
        parts: list[tuple[tuple[PortSpec, ...], L7 | None]] = []
        for rule in rules:
            ports, l7 = self._port_rule(rule, direction, whom, deny=deny)
            if l7 is None:
                plain.update(dict.fromkeys(ports))
            elif ports:
                parts.append((ports, l7))
        if plain:
            parts.insert(0, (tuple(plain), None))
        if not parts:
            self.scope.findings.warn(entry, "its port rules name no port, so it matches nothing")
        return parts

    def _port_rule(
        self, rule: Field, direction: Direction, whom: tuple[Peer, ...] | None, *, deny: bool
    ) -> tuple[tuple[PortSpec, ...], L7 | None]:
        rule.record("ports", *(() if deny else L7_FIELDS))
        ports = port_list(rule, self.scope.findings)
        if deny:
            return tuple(port for _, port in ports), None
        parsed = l7_rules(rule, direction, ports, self.scope.findings)
        for item, port in ports if parsed.parser else ():
            first = self.parsers.setdefault((direction, whom, port), parsed.parser)
            if first != parsed.parser:
                raise item.invalid(
                    f"has {parsed.parser} rules here and {first} rules in another entry for the same"
                )
        return tuple(dict.fromkeys(port for _, port in ports)), parsed.l7

    def _authentication(self, entry: Field) -> None:
        found = entry.get("authentication")
        if found is None:
            return
        mode = found.record("mode").need("mode")
        if mode.one_of(_AUTHENTICATION) != "disabled":
            self.scope.findings.not_enforced(mode, f"authentication mode {mode.value}")
