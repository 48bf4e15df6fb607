"""One field of a FlowFilter each: the wanted values in, a function of a flow out. ValueError: a value that makes no
sense. What a flow has not is matched by nothing, unless a matcher says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from weft.daemon.observer import patterns, selectors
from weft.policies.wire.pb import flow_pb2 as pb

Match = Callable[[pb.Flow], bool]


def member(get: Callable[[pb.Flow], Any]) -> Callable[[Iterable[Any]], Match]:
    """The value is one of those that are wanted."""

    def compile_field(values: Iterable[Any]) -> Match:
        wanted = frozenset(values)
        return lambda flow: get(flow) in wanted

    return compile_field


def addresses(get: Callable[[pb.Flow], str]) -> Callable[[Iterable[str]], Match]:
    def compile_field(values: Iterable[str]) -> Match:
        exact: set[str] = set()
        prefixes: list[IPv4Network | IPv6Network] = []
        for value in values:
            if "/" in value:
                prefixes.append(ip_network(value, strict=False))
            else:
                exact.add(str(ip_address(value)))

        def match(flow: pb.Flow) -> bool:
            text = get(flow)
            if not text or text in exact:
                return bool(text)
            address = ip_address(text) if prefixes else None
            return address is not None and any(address in prefix for prefix in prefixes)

        return match

    return compile_field


def named(get: Callable[[pb.Flow], tuple[str, str]]) -> Callable[[Iterable[str]], Match]:
    """`ns/prefix`, `prefix` in default, `ns/` for all of it, `/` for anything that has a name."""

    def compile_field(values: Iterable[str]) -> Match:
        wanted = [_namespaced(value) for value in values]

        def match(flow: pb.Flow) -> bool:
            namespace, name = get(flow)
            if not namespace and not name:
                return False
            return any((not ns or ns == namespace) and name.startswith(prefix) for ns, prefix in wanted)

        return match

    return compile_field


def _namespaced(text: str) -> tuple[str, str]:
    if not text:
        raise ValueError("name must not be empty")
    namespace, slash, rest = text.partition("/")
    return (namespace, rest.partition("/")[0]) if slash else ("default", text)


def labelled(get: Callable[[pb.Flow], Iterable[str]]) -> Callable[[Iterable[str]], Match]:
    def compile_field(values: Iterable[str]) -> Match:
        wanted = [selectors.parse(value) for value in values]

        def match(flow: pb.Flow) -> bool:
            labels = selectors.labels(get(flow))
            return any(selector.matches(labels) for selector in wanted)

        return match

    return compile_field


def fqdn(get: Callable[[pb.Flow], Iterable[str]]) -> Callable[[Iterable[str]], Match]:
    def compile_field(values: Iterable[str]) -> Match:
        wanted = patterns.names(values)
        return lambda flow: any(wanted.fullmatch(name) for name in get(flow))

    return compile_field


def ports(get: Callable[[Any], int]) -> Callable[[Iterable[str]], Match]:
    def compile_field(values: Iterable[str]) -> Match:
        wanted = frozenset(_port(value) for value in values)

        def match(flow: pb.Flow) -> bool:
            protocol = flow.l4.WhichOneof("protocol")
            return protocol in ("TCP", "UDP", "SCTP") and get(getattr(flow.l4, protocol)) in wanted

        return match

    return compile_field


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f"invalid port {text!r}")
    return int(text)


def workloads(get: Callable[[pb.Flow], Iterable[pb.Workload]]) -> Callable[[Iterable[pb.Workload]], Match]:
    def compile_field(values: Iterable[pb.Workload]) -> Match:
        wanted = [(value.kind, value.name) for value in values]
        return lambda flow: any(
            (not kind or kind == found.kind) and (not name or name == found.name)
            for found in get(flow)
            for kind, name in wanted
        )

    return compile_field


def clusters(get: Callable[[pb.Flow], str]) -> Callable[[Iterable[str]], Match]:
    def compile_field(values: Iterable[str]) -> Match:
        wanted = frozenset(values)
        if "" in wanted:
            raise ValueError("name must not be empty")
        return lambda flow: get(flow) in wanted

    return compile_field


def dropped(values: Iterable[int]) -> Match:
    wanted = frozenset(values)
    return lambda flow: flow.verdict == pb.DROPPED and flow.drop_reason_desc in wanted


def reply(values: Iterable[bool]) -> Match:
    """A drop does not say; it counts as no reply, for clients that grew up with the older field."""
    wanted = frozenset(values)
    return lambda flow: (flow.HasField("is_reply") or flow.verdict == pb.DROPPED) and flow.is_reply.value in wanted


def interfaces(values: Iterable[pb.NetworkInterface]) -> Match:
    wanted = [(value.index, value.name) for value in values]
    return lambda flow: (
        flow.HasField("interface")
        and any(index in (0, flow.interface.index) and name in ("", flow.interface.name) for index, name in wanted)
    )


def event_types(values: Iterable[pb.EventTypeFilter]) -> Match:
    wanted = [(value.type, value.sub_type if value.match_sub_type else None) for value in values]

    def match(flow: pb.Flow) -> bool:
        if not flow.HasField("event_type"):
            return False
        event = flow.event_type
        return any(kind in (0, event.type) and sub in (None, event.sub_type) for kind, sub in wanted)

    return match


_L4: Final = {
    "icmp": ("ICMPv4", "ICMPv6"),
    "icmpv4": ("ICMPv4",),
    "icmpv6": ("ICMPv6",),
    "tcp": ("TCP",),
    "udp": ("UDP",),
    "sctp": ("SCTP",),
    "vrrp": ("VRRP",),
    "igmp": ("IGMP",),
}
_L7: Final = ("dns", "http")


def protocols(values: Iterable[str]) -> Match:
    wanted: set[str | None] = set()
    for value in values:
        name = value.lower()
        if name not in _L4 and name not in _L7:
            raise ValueError(f"unknown protocol {value!r}")
        wanted.update(_L4.get(name, (name,)))
    return lambda flow: (
        flow.l4.WhichOneof("protocol") in wanted or (flow.HasField("l7") and flow.l7.WhichOneof("record") in wanted)
    )


def tcp_flags(values: Iterable[pb.TCPFlags]) -> Match:
    """One of the sets is contained in the flow's; more flags do not matter."""
    wanted = [[field.name for field, _ in value.ListFields()] for value in values]

    def match(flow: pb.Flow) -> bool:
        if flow.l4.WhichOneof("protocol") != "TCP" or not flow.l4.TCP.HasField("flags"):
            return False
        flags = flow.l4.TCP.flags
        return any(all(getattr(flags, name) for name in some) for some in wanted)

    return match


def nodes(values: Iterable[str]) -> Match:
    wanted = patterns.nodes(values)

    def match(flow: pb.Flow) -> bool:
        name = flow.node_name if "/" in flow.node_name else f"default/{flow.node_name}"
        return bool(flow.node_name and wanted.fullmatch(name))

    return match


def _http(flow: pb.Flow) -> pb.HTTP | None:
    return flow.l7.http if flow.HasField("l7") and flow.l7.HasField("http") else None


def http_statuses(values: Iterable[str]) -> Match:
    prefixes = []
    for value in values:
        if not re.fullmatch(r"[1-5][0-9]{2}|[1-5][0-9]?\+", value):
            raise ValueError(f"invalid status code prefix: {value!r}")
        prefixes.append(value.removesuffix("+"))

    def match(flow: pb.Flow) -> bool:
        http = _http(flow)
        return http is not None and http.code != 0 and f"{http.code:03}".startswith(tuple(prefixes))

    return match


def http_methods(values: Iterable[str]) -> Match:
    wanted = frozenset(value.lower() for value in values)
    return lambda flow: bool((http := _http(flow)) and http.method and http.method.lower() in wanted)


def http_headers(values: Iterable[pb.HTTPHeader]) -> Match:
    wanted = {(value.key, value.value) for value in values}
    return lambda flow: bool((http := _http(flow)) and any((h.key, h.value) in wanted for h in http.headers))


def searched(get: Callable[[pb.Flow], str]) -> Callable[[Iterable[str]], Match]:
    """Regular expressions that may match anywhere in the text; an empty text matches none."""

    def compile_field(values: Iterable[str]) -> Match:
        wanted = [patterns.regex(value) for value in values]
        return lambda flow: bool(text := get(flow)) and any(regex.search(text) for regex in wanted)

    return compile_field


def http_url(flow: pb.Flow) -> str:
    http = _http(flow)
    return http.url if http is not None else ""


def http_path(flow: pb.Flow) -> str:
    try:
        return urlsplit(http_url(flow)).path
    except ValueError:  # not a URL: nothing to match
        return ""


def dns_query(flow: pb.Flow) -> str:
    return flow.l7.dns.query if flow.HasField("l7") and flow.l7.HasField("dns") else ""


def experimental(value: pb.FlowFilter.Experimental) -> Match:
    if value.cel_expression:
        raise ValueError("CEL expressions are not supported: use the other filters")
    return lambda flow: True
