"""The filter flags of `weft observe`, in the order in which they were written, become FlowFilters.

Two filters are built at once, left and right, and a flow passes by either: `--pod` puts the name on the source of
the left and on the destination of the right one, `--from-pod` on the source of both. `--not` sends the next flag to
the filters of what is left out. A namespace applies to the pods and services that name none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from weft.daemon.observer import names
from weft.policies.identity import RESERVED_BY_NAME
from weft.policies.wire.pb import flow_pb2 as pb

#: Flags of one group exclude each other.
CONFLICTS: Final = (
    "from-fqdn from-ip ip fqdn from-namespace namespace from-all-namespaces all-namespaces",
    "from-fqdn from-ip ip fqdn from-pod pod",
    "to-fqdn to-ip ip fqdn to-namespace namespace to-all-namespaces all-namespaces",
    "to-fqdn to-ip ip fqdn to-pod pod",
    "to-pod namespace all-namespaces",
    "from-pod namespace all-namespaces",
    "to-service namespace all-namespaces",
    "from-service namespace all-namespaces",
    "label from-label",
    "label to-label",
    "service from-service",
    "service to-service",
    "port to-port",
    "port from-port",
    "identity to-identity",
    "identity from-identity",
    "workload to-workload",
    "workload from-workload",
    "encrypted unencrypted",
    "reply not-reply",
)
_GROUPS: Final = tuple(frozenset(group.split()) for group in CONFLICTS)
_VERSIONS: Final = {"4": pb.IPv4, "v4": pb.IPv4, "ipv4": pb.IPv4, "ip4": pb.IPv4} | {
    "6": pb.IPv6, "v6": pb.IPv6, "ipv6": pb.IPv6, "ip6": pb.IPv6
}  # fmt: skip


# --- values ---


def _identity(text: str) -> int:
    if text in RESERVED_BY_NAME:
        return RESERVED_BY_NAME[text]
    if text.isascii() and text.isdigit() and int(text) < 1 << 32:
        return int(text)
    raise ValueError(f"invalid security identity, expected one of {', '.join(RESERVED_BY_NAME)} or a numeric value")


def _workload(text: str) -> pb.Workload:
    kind, slash, name = text.partition("/")
    return pb.Workload(kind=kind, name=name) if slash else pb.Workload(name=text)


def _tcp_flags(text: str) -> pb.TCPFlags:
    flags = pb.TCPFlags()
    for name in text.upper().split(","):
        if name not in pb.TCPFlags.DESCRIPTOR.fields_by_name:
            raise ValueError(f"unknown tcp flag: {name}")
        setattr(flags, name, True)
    return flags


def event_type(text: str) -> pb.EventTypeFilter:
    """`drop`, `trace:to-endpoint`, `5`, `trace-sock:sock-open`."""
    kind_text, colon, sub_text = text.partition(":")
    kind = names.MESSAGE_TYPES.get(kind_text, -1)
    if kind < 0:
        kind = _number(kind_text, "type", "not a known type name")
    wanted = pb.EventTypeFilter(type=kind)
    if colon:
        wanted.match_sub_type = True
        wanted.sub_type = _sub_type(kind, sub_text)
    return wanted


def _sub_type(kind: int, text: str) -> int:
    words = {
        names.MessageType.TRACE: {word: number for number, word in names.TRACE_POINTS.items()},
        names.MessageType.TRACE_SOCK: {word: number for number, word in names.SOCK_POINTS.items()},
        names.MessageType.AGENT: names.AGENT_EVENTS,
    }.get(kind, {})  # type: ignore[call-overload]
    return words[text] if text in words else _number(text, "event sub-type", "not a known sub-type name")


def _number(text: str, what: str, why: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 1 << 31:
        return int(text)
    raise ValueError(f"unable to parse {what} '{text}', {why} and unable to parse as numeric value")


def _enum(wrapper: type[pb.Verdict] | type[pb.DropReason], flag: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text not in wrapper.keys():  # noqa: SIM118 (no mapping)
            raise ValueError(f"invalid --{flag} value: {text}")
        return int(wrapper.Value(text))

    return parse


def _direction(text: str) -> int:
    if text.lower() not in ("ingress", "egress"):
        raise ValueError(f"{text.lower()}: invalid traffic direction, expected ingress or egress")
    return int(pb.TrafficDirection.Value(text.upper()))


def _trace_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 64):
        raise ValueError("invalid --ip-trace-id value; must be greater than 0")
    return int(text)


def _header(text: str) -> pb.HTTPHeader:
    key, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"invalid http-header value {text!r}, expected name:value")
    return pb.HTTPHeader(key=key, value=value)


def _text(text: str) -> str:
    return text


Parse = Callable[[str], object]
#: X, from-X and to-X, on source_X and destination_X
SIDED: Final[dict[str, tuple[str, Parse]]] = {
    "fqdn": ("fqdn", _text),
    "pod": ("pod", _text),
    "ip": ("ip", _text),
    "label": ("label", _text),
    "service": ("service", _text),
    "port": ("port", _text),
    "workload": ("workload", _workload),
    "identity": ("identity", _identity),
    "cluster": ("cluster_name", _text),
}
#: On a field of its own
PLAIN: Final[dict[str, tuple[str, Parse]]] = {
    "uuid": ("uuid", _text),
    "snat-ip": ("source_ip_xlated", _text),
    "ip-version": ("ip_version", lambda text: _VERSIONS.get(text.lower(), pb.IP_NOT_USED)),
    "trace-id": ("trace_id", _text),
    "ip-trace-id": ("ip_trace_id", _trace_number),
    "verdict": ("verdict", _enum(pb.Verdict, "verdict")),
    "drop-reason-desc": ("drop_reason_desc", _enum(pb.DropReason, "drop-reason-desc")),
    "http-status": ("http_status_code", _text),
    "http-method": ("http_method", _text),
    "http-path": ("http_path", _text),
    "http-url": ("http_url", _text),
    "http-header": ("http_header", _header),
    "type": ("event_type", event_type),
    "protocol": ("protocol", _text),
    "node-name": ("node_name", _text),
    "node-label": ("node_labels", _text),
    "tcp-flags": ("tcp_flags", _tcp_flags),
    "traffic-direction": ("traffic_direction", _direction),
    "interface": ("interface", lambda text: pb.NetworkInterface(name=text)),
    "cel-expression": ("experimental.cel_expression", _text),
}
#: Take no value
SWITCHES: Final[dict[str, tuple[str, object]]] = {
    "ipv4": ("ip_version", pb.IPv4),
    "ipv6": ("ip_version", pb.IPv6),
    "encrypted": ("encrypted", True),
    "unencrypted": ("encrypted", False),
    "reply": ("reply", True),
    "not-reply": ("reply", False),
}
NAMESPACES: Final = ("namespace", "from-namespace", "to-namespace")
ALL_NAMESPACES: Final = ("all-namespaces", "from-all-namespaces", "to-all-namespaces")


@dataclass(slots=True)
class Pair:
    """Left and right of one list, and the namespaces that go into them at the end."""

    left: pb.FlowFilter = field(default_factory=pb.FlowFilter)
    right: pb.FlowFilter = field(default_factory=pb.FlowFilter)
    source_namespaces: list[str] = field(default_factory=list)
    destination_namespaces: list[str] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    def set(self, flag: str, text: str) -> None:
        """ValueError: a value that makes no sense, or one that excludes an earlier flag."""
        self._check_conflicts(flag)
        if flag in SWITCHES:
            self._both(*SWITCHES[flag])
        elif flag in PLAIN:
            name, parse = PLAIN[flag]
            self._both(name, parse(text))
        elif flag in NAMESPACES or flag in ALL_NAMESPACES:
            self._namespaces_of(flag).append("" if flag in ALL_NAMESPACES else text)
        else:
            self._set_sided(flag, text)
        self._check_namespaces()

    def filters(self) -> list[pb.FlowFilter]:
        if not self.used:
            return []
        left, right = pb.FlowFilter(), pb.FlowFilter()
        left.CopyFrom(self.left)
        right.CopyFrom(self.right)
        for one in (left, right):
            _put_namespaces(one, "destination", self.destination_namespaces)
            _put_namespaces(one, "source", self.source_namespaces)
        _put_namespaces(left, "source", self.namespaces)
        _put_namespaces(right, "destination", self.namespaces)
        return [left] if left == right else [left, right]

    def _set_sided(self, flag: str, text: str) -> None:
        side, _, base = flag.rpartition("-") if flag.startswith(("from-", "to-")) else ("", "", flag)
        name, parse = SIDED[base]
        value = parse(text)
        if side in ("", "from"):
            _add(self.left, f"source_{name}", value)
        if side == "from":
            _add(self.right, f"source_{name}", value)
        if side == "to":
            _add(self.left, f"destination_{name}", value)
        if side in ("", "to"):
            _add(self.right, f"destination_{name}", value)

    def _both(self, name: str, value: object) -> None:
        _add(self.left, name, value)
        _add(self.right, name, value)

    def _namespaces_of(self, flag: str) -> list[str]:
        if flag.startswith("from-"):
            return self.source_namespaces
        return self.destination_namespaces if flag.startswith("to-") else self.namespaces

    def _check_conflicts(self, flag: str) -> None:
        if flag in self.used:
            return
        for group in _GROUPS:
            if flag in group and (other := next((used for used in self.used if used in group), "")):
                raise ValueError(f"filters --{other} and --{flag} cannot be combined")
        self.used.append(flag)

    def _check_namespaces(self) -> None:
        for one in (self.left, self.right):
            source, destination = list(one.source_pod), list(one.destination_pod)
            source_service, destination_service = list(one.source_service), list(one.destination_service)
            _agree(self.namespaces, [*source, *source_service, *destination, *destination_service])
            _agree(self.source_namespaces, [*source, *source_service])
            _agree(self.destination_namespaces, [*destination, *destination_service])
            _same_namespace(source, source_service)
            _same_namespace(destination, destination_service)


def _add(one: pb.FlowFilter, path: str, value: object) -> None:
    target, _, name = path.rpartition(".")
    getattr(getattr(one, target) if target else one, name).append(value)


def _put_namespaces(one: pb.FlowFilter, side: str, namespaces: Sequence[str]) -> None:
    if not namespaces:
        return
    pods, services = getattr(one, f"{side}_pod"), getattr(one, f"{side}_service")
    if not pods and not services:
        pods.append("")
    for names_of in (pods, services):
        full = [n for name in names_of for n in ([name] if "/" in name else [f"{ns}/{name}" for ns in namespaces])]
        del names_of[:]
        names_of.extend(full)


def _agree(namespaces: Sequence[str], qualified: Sequence[str]) -> None:
    for namespace in namespaces:
        for name in qualified:
            if "/" in name and name.partition("/")[0] not in ("", namespace):
                raise ValueError(f'namespace conflict: "{namespace}" does not contain "{name}"')


def _same_namespace(pods: Sequence[str], services: Sequence[str]) -> None:
    for pod in pods:
        namespace, slash, _ = pod.partition("/")
        for service in services:
            if slash and namespace and service.rpartition("/")[0] != namespace:
                raise ValueError(f'namespace of service "{service}" conflict with pod "{namespace}"')


class Filters:
    """What the flags say so far. `negate` is set by --not, for the next flag."""

    def __init__(self) -> None:
        self.allow, self.deny = Pair(), Pair()
        self.negate = False

    def set(self, flag: str, text: str) -> None:
        if flag == "not":
            if self.negate:
                raise ValueError("consecutive --not statements")
            self.negate = True
            return
        pair, self.negate = (self.deny if self.negate else self.allow), False
        pair.set(flag, text)
