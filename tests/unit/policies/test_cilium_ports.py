"""Which ports and ICMP types an entry of a CiliumNetworkPolicy is about (statements P1 to P5, P7)."""

from __future__ import annotations

import pytest

from declared import policy, refusal, rule_of, spec_of
from weft.policies.dialects.ports import ICMP_TYPES, ICMPV6_TYPES
from weft.policies.model import EntityPeer, PortSpec, Protocol

ANY, TCP, UDP, SCTP = Protocol.ANY, Protocol.TCP, Protocol.UDP, Protocol.SCTP
ICMP, ICMPV6 = Protocol.ICMP, Protocol.ICMPV6

PORTS = {
    "one port": ('{port: "80", protocol: TCP}', PortSpec(TCP, 80, 80), 0),
    "P1 no protocol is TCP, UDP and SCTP": ('{port: "53"}', PortSpec(ANY, 53, 53), 0),
    "P1 ANY says so": ('{port: "53", protocol: ANY}', PortSpec(ANY, 53, 53), 0),
    "P1 an empty protocol too": ('{port: "53", protocol: ""}', PortSpec(ANY, 53, 53), 0),
    "P1 port 0 is every port of the protocol": ('{port: "0", protocol: UDP}', PortSpec(UDP, 0, 0), 0),
    "P1 port 0 of every protocol": ('{port: "0"}', PortSpec(ANY, 0, 0), 0),
    "SCTP": ('{port: "9", protocol: SCTP}', PortSpec(SCTP, 9, 9), 0),
    "P2 a range": ('{port: "80", endPort: 444, protocol: TCP}', PortSpec(TCP, 80, 444), 0),
    "P2 a range from 0": ('{port: "0", endPort: 444, protocol: TCP}', PortSpec(TCP, 0, 444), 0),
    "P2 the whole range": ('{port: "0", endPort: 65535, protocol: TCP}', PortSpec(TCP, 0, 65535), 0),
    "P2 an endPort below is one port, with a warning": (
        '{port: "90", endPort: 80, protocol: TCP}',
        PortSpec(TCP, 90, 90),
        1,
    ),
    "P2 an endPort that is the port is one port": ('{port: "90", endPort: 90}', PortSpec(ANY, 90, 90), 1),
    "P2 an endPort of 0 is none": ('{port: "90", endPort: 0}', PortSpec(ANY, 90, 90), 0),
    "P2 an endPort beside a name means nothing": ("{port: http, endPort: 90}", PortSpec(ANY, name="http"), 1),
    "P3 a name": ("{port: http, protocol: TCP}", PortSpec(TCP, name="http"), 0),
    "P3 names are lower-cased": ("{port: HTTP-Alt}", PortSpec(ANY, name="http-alt"), 0),
    "P3 a name may start with a digit": ('{port: "8-web"}', PortSpec(ANY, name="8-web"), 0),
    "P4 a leading zero is octal, with a warning": ('{port: "010"}', PortSpec(ANY, 8, 8), 1),
    "P4 0x10 is a name": ('{port: "0x10"}', PortSpec(ANY, name="0x10"), 0),
    "P4 00 is every port": ('{port: "00"}', PortSpec(ANY, 0, 0), 0),
    "the last port": ('{port: "65535"}', PortSpec(ANY, 65535, 65535), 0),
}


@pytest.mark.parametrize(("item", "expected", "warnings"), PORTS.values(), ids=PORTS)
@pytest.mark.parametrize("section", ["ingress", "egressDeny"])
def test_port(section: str, item: str, expected: PortSpec, warnings: int) -> None:
    found = policy(f"endpointSelector: {{}}\n{section}: [{{toPorts: [{{ports: [{item}]}}]}}]")
    assert found.specs[0].rules[0].ports == (expected,)
    assert len(found.warnings) == warnings


def test_port_rules_of_one_entry_are_one_rule() -> None:
    rule = rule_of('{toPorts: [{ports: [{port: "1"}, {port: "2"}]}, {ports: [{port: "2"}, {port: "3"}]}]}')
    assert rule.ports is not None and [port.port for port in rule.ports] == [1, 2, 3]


def test_p4_forty_ports_are_fine() -> None:
    items = ", ".join(f'{{port: "{port}"}}' for port in range(1, 41))
    rule = rule_of(f"{{toPorts: [{{ports: [{items}]}}]}}")
    assert rule.ports is not None and len(rule.ports) == 40


EVERY_PORT = {
    "P7 no toPorts": "{fromEntities: [world]}",
    "P7 an empty toPorts is the same": "{fromEntities: [world], toPorts: []}",
    "P7 an empty icmps too": "{fromEntities: [world], icmps: []}",
    "P7 both empty": "{fromEntities: [world], toPorts: [], icmps: []}",
}


@pytest.mark.parametrize("entry", EVERY_PORT.values(), ids=EVERY_PORT)
def test_means_every_port(entry: str) -> None:
    rule = rule_of(entry)
    assert (rule.peers, rule.ports) == ((EntityPeer("world"),), None)


def test_an_empty_list_of_ports_is_warned_of() -> None:
    (warning,) = policy("endpointSelector: {}\ningress: [{fromEntities: [world], toPorts: []}]").warnings
    assert warning.startswith("spec.ingress[0].toPorts: is an empty list, which is the same as leaving it out")


NOTHING = {
    "a port rule without ports": "{fromEntities: [world], toPorts: [{}]}",
    "a port rule with no port": "{fromEntities: [world], toPorts: [{ports: []}]}",
    "ICMP without fields": "{fromEntities: [world], icmps: [{}]}",
    "ICMP with no field": "{fromEntities: [world], icmps: [{fields: []}]}",
}


@pytest.mark.parametrize("entry", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("section", ["ingress", "ingressDeny"])
def test_matches_nothing(entry: str, section: str) -> None:
    found = policy(f"endpointSelector: {{}}\n{section}: [{entry}]")
    assert found.specs[0].rules[0].peers == ()
    assert found.warnings == (f"spec.{section}[0]: its port rules name no port, so it matches nothing",)


# ICMP

TYPES = {
    "IPv4 is the default": ("{type: 8}", PortSpec(ICMP, 8, 8)),
    "IPv6": ("{family: IPv6, type: 128}", PortSpec(ICMPV6, 128, 128)),
    "type 0": ("{type: 0}", PortSpec(ICMP, 0, 0)),
    "type 255": ("{type: 255}", PortSpec(ICMP, 255, 255)),
    "a number in quotes": ('{type: "8"}', PortSpec(ICMP, 8, 8)),
    "0 in quotes": ('{type: "0"}', PortSpec(ICMP, 0, 0)),
    "a name of IPv4": ("{family: IPv4, type: EchoRequest}", PortSpec(ICMP, 8, 8)),
    "the same name of IPv6": ("{family: IPv6, type: EchoRequest}", PortSpec(ICMPV6, 128, 128)),
}


@pytest.mark.parametrize(("item", "expected"), TYPES.values(), ids=TYPES)
def test_icmp(item: str, expected: PortSpec) -> None:
    rule = rule_of(f"{{icmps: [{{fields: [{item}]}}]}}")
    assert (rule.peers, rule.ports) == (None, (expected,))


@pytest.mark.parametrize("name", ICMP_TYPES)
def test_icmp_name(name: str) -> None:
    number = ICMP_TYPES[name]
    assert rule_of(f"{{icmps: [{{fields: [{{type: {name}}}]}}]}}").ports == (PortSpec(ICMP, number, number),)


@pytest.mark.parametrize("name", ICMPV6_TYPES)
def test_icmpv6_name(name: str) -> None:
    number = ICMPV6_TYPES[name]
    rule = rule_of(f"{{icmps: [{{fields: [{{family: IPv6, type: {name}}}]}}]}}")
    assert rule.ports == (PortSpec(ICMPV6, number, number),)


def test_fields_of_several_icmp_rules_come_together() -> None:
    rule = rule_of("{fromEntities: [world], icmps: [{fields: [{type: 8}, {type: 0}]}, {fields: [{type: 3}]}]}")
    assert rule.ports is not None and [port.port for port in rule.ports] == [8, 0, 3]


# What is refused

FORTY_ONE = ", ".join(f'{{port: "{port}"}}' for port in range(1, 42))
REFUSED = {
    "P4 an empty port": ('{toPorts: [{ports: [{port: ""}]}]}', "toPorts[0].ports[0].port", "needs a port"),
    "P4 a port that is left out": (
        "{toPorts: [{ports: [{protocol: TCP}]}]}",
        "toPorts[0].ports[0]",
        "needs a port",
    ),
    "a port that is a number": (
        "{toPorts: [{ports: [{port: 80}]}]}",
        "toPorts[0].ports[0].port",
        "must be a string, is a whole number (80): put it in quotes",
    ),
    "a port above 65535": ('{toPorts: [{ports: [{port: "65536"}]}]}', "toPorts[0].ports[0].port", "above 65535"),
    "P4 0080 is no octal number": ('{toPorts: [{ports: [{port: "0080"}]}]}', "toPorts[0].ports[0].port", "neither"),
    "a negative port": ('{toPorts: [{ports: [{port: "-1"}]}]}', "toPorts[0].ports[0].port", "neither"),
    "a port with a plus": ('{toPorts: [{ports: [{port: "+1"}]}]}', "toPorts[0].ports[0].port", "neither"),
    "a port with a space": ('{toPorts: [{ports: [{port: " 80"}]}]}', "toPorts[0].ports[0].port", "neither"),
    "a port with underscores": ('{toPorts: [{ports: [{port: "8_0"}]}]}', "toPorts[0].ports[0].port", "neither"),
    "a port in other digits": ('{toPorts: [{ports: [{port: "٨٠"}]}]}', "toPorts[0].ports[0].port", "neither"),
    "a port of many digits": (
        f'{{toPorts: [{{ports: [{{port: "{"9" * 4000}"}}]}}]}}',
        "toPorts[0].ports[0].port",
        "neither",
    ),
    "P3 a name of 16 characters": (
        "{toPorts: [{ports: [{port: abcdefghijklmnop}]}]}",
        "toPorts[0].ports[0].port",
        "15",
    ),
    "P3 a name with two hyphens": ("{toPorts: [{ports: [{port: a--b}]}]}", "toPorts[0].ports[0].port", "neither"),
    "P3 a name that starts with a hyphen": (
        "{toPorts: [{ports: [{port: -a}]}]}",
        "toPorts[0].ports[0].port",
        "neither",
    ),
    "P3 a name that ends in a hyphen": (
        "{toPorts: [{ports: [{port: a-}]}]}",
        "toPorts[0].ports[0].port",
        "neither",
    ),
    "P2 a negative endPort": (
        '{toPorts: [{ports: [{port: "1", endPort: -1}]}]}',
        "toPorts[0].ports[0].endPort",
        "must be 0 to 65535",
    ),
    "P2 an endPort above 65535": (
        '{toPorts: [{ports: [{port: "1", endPort: 65536}]}]}',
        "toPorts[0].ports[0].endPort",
        "must be 0 to 65535",
    ),
    "P2 an endPort in quotes": (
        '{toPorts: [{ports: [{port: "1", endPort: "5"}]}]}',
        "toPorts[0].ports[0].endPort",
        "without quotes",
    ),
    "P2 an endPort that is true": (
        '{toPorts: [{ports: [{port: "1", endPort: true}]}]}',
        "toPorts[0].ports[0].endPort",
        "must be a whole number, is true or false",
    ),
    "an unknown protocol": (
        '{toPorts: [{ports: [{port: "1", protocol: QUIC}]}]}',
        "toPorts[0].ports[0].protocol",
        "is not one of ANY, TCP, UDP, SCTP",
    ),
    "a protocol in lower case": (
        '{toPorts: [{ports: [{port: "1", protocol: tcp}]}]}',
        "toPorts[0].ports[0].protocol",
        "is not one of",
    ),
    "ICMP as a protocol": (
        '{toPorts: [{ports: [{port: "1", protocol: ICMP}]}]}',
        "toPorts[0].ports[0].protocol",
        "use icmps",
    ),
    "P4 41 ports": (f"{{toPorts: [{{ports: [{FORTY_ONE}]}}]}}", "toPorts[0].ports", "41 entries, at most 40"),
    "an unknown field of a port": (
        '{toPorts: [{ports: [{port: "1", name: a}]}]}',
        "toPorts[0].ports[0].name",
        "unknown",
    ),
    "an unknown field of a port rule": ("{toPorts: [{port: []}]}", "toPorts[0].port", "unknown field"),
    "P5 icmps and toPorts": (
        '{toPorts: [{ports: [{port: "1"}]}], icmps: [{fields: [{type: 8}]}]}',
        "icmps",
        "exclude each other",
    ),
    "an ICMP type above 255": ("{icmps: [{fields: [{type: 256}]}]}", "icmps[0].fields[0].type", "must be 0 to 255"),
    "an ICMP type above 255 in quotes": (
        '{icmps: [{fields: [{type: "256"}]}]}',
        "icmps[0].fields[0].type",
        "0 to 255",
    ),
    "an ICMP type that is left out": ("{icmps: [{fields: [{}]}]}", "icmps[0].fields[0].type", "is missing"),
    "an unknown ICMP type": (
        "{icmps: [{fields: [{type: Ping}]}]}",
        "icmps[0].fields[0].type",
        "no ICMP type of IPv4",
    ),
    "an ICMPv6 name for IPv4": (
        "{icmps: [{fields: [{type: PacketTooBig}]}]}",
        "icmps[0].fields[0].type",
        "no ICMP type of IPv4",
    ),
    "an ICMP name for IPv6": (
        "{icmps: [{fields: [{family: IPv6, type: Photuris}]}]}",
        "icmps[0].fields[0].type",
        "no ICMP type of IPv6",
    ),
    "an unknown family": (
        "{icmps: [{fields: [{family: ipv4, type: 8}]}]}",
        "icmps[0].fields[0].family",
        "is not one of",
    ),
    "P4 41 ICMP fields": (
        f"{{icmps: [{{fields: [{', '.join(['{type: 8}'] * 41)}]}}]}}",
        "icmps[0].fields",
        "41 entries, at most 40",
    ),
}


@pytest.mark.parametrize(("entry", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_is_refused(entry: str, path: str, reason: str) -> None:
    error = refusal(f"endpointSelector: {{}}\ningress: [{entry}]")
    assert error.where.path == f"spec.ingress[0].{path}"
    assert reason in error.reason
    assert not error.not_enforced


def test_a_deny_has_no_l7() -> None:
    for name in ("rules", "terminatingTLS", "serverNames", "listener"):
        error = refusal(f"endpointSelector: {{}}\ningressDeny: [{{toPorts: [{{{name}: {{}}}}]}}]")
        assert error.where.path == f"spec.ingressDeny[0].toPorts[0].{name}"
        assert "unknown field" in error.reason


@pytest.mark.parametrize("protocol", ["VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"])
@pytest.mark.parametrize("port", ["", 'port: "0", ', 'port: "", '])
def test_extended_protocols_are_not_enforced_yet(protocol: str, port: str) -> None:
    error = refusal(
        f"endpointSelector: {{}}\ningress: [{{toPorts: [{{ports: [{{{port}protocol: {protocol}}}]}}]}}]"
    )
    assert error.not_enforced
    assert error.where.path == "spec.ingress[0].toPorts[0].ports[0].protocol"


def test_an_entry_keeps_its_ports_and_its_peers_apart_from_others() -> None:
    spec = spec_of(
        "endpointSelector: {}\n"
        'ingress: [{fromEntities: [host]}, {toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]'
    )
    assert [(rule.peers, rule.ports) for rule in spec.rules] == [
        ((EntityPeer("host"),), None),
        (None, (PortSpec(TCP, 80, 80),)),
    ]
