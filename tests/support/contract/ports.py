"""Ports and ICMP: P1 to P7."""

from __future__ import annotations

from contract.rows import Row, egress, ingress, ports
from truth_cases import FOO_80, FROM_FOO, cnp

ROWS = [
    Row(
        "P1 port 0 is every port of the protocol",
        ingress("{" + ports("port: '0', protocol: UDP") + "}"),
        ("foo > s:1/udp", "foo > s:65535/udp"),
        ("foo > s:80", "foo > s:9/sctp"),
    ),
    Row(
        "P1 ANY",
        ingress("{" + ports("port: '80', protocol: ANY") + "}"),
        ("foo > s:80", "foo > s:80/udp", "foo > s:80/sctp"),
        ("foo > s:81", "foo > s:8/icmp"),
    ),
    Row(
        "P1 no protocol",
        ingress("{" + ports("port: '80'") + "}"),
        ("foo > s:80", "foo > s:80/udp", "foo > s:80/sctp"),
        ("foo > s:81",),
    ),
    Row(
        "P1 port 0 and ANY",
        ingress("{" + ports("port: '0'") + "}"),
        ("foo > s:1", "foo > s:1/udp", "foo > s:1/sctp"),
        ("foo > s:8/icmp",),
    ),
    Row(
        "P2 a range",
        ingress("{" + ports("port: '80', endPort: 444, protocol: TCP") + "}"),
        ("foo > s:80", "foo > s:443", "foo > s:444"),
        ("foo > s:79", "foo > s:445", "foo > s:80/udp"),
    ),
    Row(
        "P2 endPort below port",
        ingress("{" + ports("port: '90', endPort: 80, protocol: TCP") + "}"),
        ("foo > s:90",),
        ("foo > s:80", "foo > s:85", "foo > s:91"),
    ),
    Row(
        "P2 endPort equal to port",
        ingress("{" + ports("port: '90', endPort: 90") + "}"),
        ("foo > s:90",),
        ("foo > s:91",),
    ),
    Row(
        "P2 from 0",
        ingress("{" + ports("port: '0', endPort: 100, protocol: TCP") + "}"),
        ("foo > s:1", "foo > s:100"),
        ("foo > s:101",),
    ),
    Row(
        "P2 to the last",
        ingress("{" + ports("port: '60000', endPort: 65535, protocol: TCP") + "}"),
        ("foo > s:60000", "foo > s:65535"),
        ("foo > s:59999",),
    ),
    Row("P2 endPort out of range", ingress("{" + ports("port: '1', endPort: 65536") + "}"), refused=("endPort",)),
    Row(
        "P3 named, in: the subject's",
        ingress("{" + ports("port: web, protocol: TCP") + "}"),
        ("foo > s:80",),
        ("foo > s:8080", "foo > s:80/udp"),
    ),
    Row("P3 in any case", ingress("{" + ports("port: WEB, protocol: TCP") + "}"), ("foo > s:80",), ("foo > s:81",)),
    Row(
        "P3 the protocol is the port's",
        ingress("{" + ports("port: names") + "}"),
        ("foo > s:53/udp",),
        ("foo > s:53/tcp",),
    ),
    Row(
        "P3 SCTP by name",
        ingress("{" + ports("port: sig, protocol: SCTP") + "}"),
        ("foo > s:9999/sctp",),
        ("foo > s:9999",),
    ),
    Row(
        "P3 not that protocol's name",
        ingress("{" + ports("port: names, protocol: TCP") + "}"),
        (),
        ("foo > s:53/udp", "foo > s:53/tcp"),
    ),
    Row(
        "P3 named, out: each peer's",
        egress("{toEndpoints: [{}], " + ports("port: web, protocol: TCP") + "}"),
        ("s > foo:80", "s > bar:8080", "s > dep:7000"),
        ("s > foo:8080", "s > bar:80", "s > xfoo:80"),
    ),
    Row(
        "P3 named, out, to anybody",
        egress("{" + ports("port: web, protocol: TCP") + "}"),
        ("s > foo:80", "s > bar:8080"),
        ("s > bar:80", "s > world:80"),
    ),
    Row("P3 undefined is nothing", ingress("{" + ports("port: nowhere, protocol: TCP") + "}"), (), ("foo > s:80",)),
    Row(
        "P3 denied by name",
        ingress("fromEntities: [all]", "ingressDeny: [{" + ports("port: alt, protocol: TCP") + "}]"),
        ("foo > s:80", "foo > s:81/udp"),
        ("foo > s:81",),
    ),
    Row("P4 octal", ingress("{" + ports("port: '010'") + "}"), ("foo > s:8",), ("foo > s:10",)),
    Row(
        "P4 octal of several digits", ingress("{" + ports("port: '0120'") + "}"), ("foo > s:80",), ("foo > s:120",)
    ),
    Row(
        "P4 no octal digit",
        ingress("{" + ports("port: '0080'") + "}"),
        refused=("spec.ingress[0].toPorts[0].ports[0].port",),
    ),
    Row("P4 0x10 is a name", ingress("{" + ports("port: '0x10'") + "}"), (), ("foo > s:16",)),
    Row("P4 too high", ingress("{" + ports("port: '65536'") + "}"), refused=("65535",)),
    Row("P4 empty", ingress("{" + ports("port: ''") + "}"), refused=("port",)),
    Row("P4 left out", ingress("{" + ports("protocol: TCP") + "}"), refused=("port",)),
    Row("P4 not a string", ingress("{" + ports("port: 80") + "}"), refused=("quotes",)),
    Row("P4 two hyphens", ingress("{" + ports("port: a--b") + "}"), refused=("a--b",)),
    Row("P4 sixteen letters", ingress("{" + ports("port: abcdefghijklmnop") + "}"), refused=("abcdefghijklmnop",)),
    Row("P4 fifteen letters", ingress("{" + ports("port: abcdefghijklmno") + "}"), (), ("foo > s:80",)),
    Row(
        "P4 40 ports",
        ingress("{" + ports(*(f"port: '{n}'" for n in range(1, 41))) + "}"),
        ("foo > s:40",),
        ("foo > s:41",),
    ),
    Row("P4 41 ports", ingress("{" + ports(*(f"port: '{n}'" for n in range(1, 42))) + "}"), refused=("40",)),
    Row(
        "P4 41 ICMP fields",
        ingress("icmps: [{fields: [" + ", ".join(f"{{type: {n}}}" for n in range(41)) + "]}]"),
        refused=("40",),
    ),
    Row("P4 an unknown protocol", ingress("{" + ports("port: '80', protocol: QUIC") + "}"), refused=("QUIC",)),
    Row(
        "P5 icmps and toPorts",
        ingress("{icmps: [{fields: [{type: 8}]}], " + ports("port: '80'") + "}"),
        refused=("icmps",),
    ),
    Row(
        "P5 in two entries",
        ingress("icmps: [{fields: [{type: 8}]}]", "- " + ports("port: '80'")),
        ("foo > s:8/icmp", "foo > s:80"),
        ("foo > s:0/icmp", "foo > s:128/icmp6"),
    ),
    Row("P6 no ICMP under L4 rules", cnp(FOO_80), ("foo > s:80",), ("foo > s:8/icmp", "foo > s:128/icmp6")),
    Row(
        "P7 L3 alone is every protocol",
        cnp(FROM_FOO),
        ("foo > s:1", "foo > s:9/udp", "foo > s:9/sctp", "foo > s:8/icmp", "foo > s:128/icmp6"),
        ("bar > s:8/icmp",),
    ),
    Row(
        "P7 an empty toPorts is left out",
        ingress("{fromEndpoints: [{matchLabels: {app: foo}}], toPorts: []}"),
        ("foo > s:1/udp",),
        ("bar > s:1/udp",),
    ),
    Row(
        "ICMP by family",
        ingress("icmps: [{fields: [{type: 8, family: IPv4}, {type: EchoRequest, family: IPv6}]}]"),
        ("foo > s:8/icmp", "foo > s:128/icmp6"),
        ("foo > s:129/icmp6", "foo > s:80"),
    ),
    Row(
        "ICMP denied",
        ingress("fromEntities: [all]", "ingressDeny: [{icmps: [{fields: [{type: 8}]}]}]"),
        ("foo > s:80", "foo > s:13/icmp", "foo > s:128/icmp6"),
        ("foo > s:8/icmp",),
    ),
    Row("ICMP type too high", ingress("icmps: [{fields: [{type: 256}]}]"), refused=("type",)),
    Row(
        "ICMP type of the other family",
        ingress("icmps: [{fields: [{type: PacketTooBig}]}]"),
        refused=("PacketTooBig",),
    ),
    Row(
        "SCTP",
        ingress("{" + ports("port: '9999', protocol: SCTP") + "}"),
        ("foo > s:9999/sctp",),
        ("foo > s:9999", "foo > s:9999/udp"),
    ),
    Row(
        "a range beside a port",
        ingress("{" + ports("port: '80', endPort: 90, protocol: TCP", "port: '443', protocol: TCP") + "}"),
        ("foo > s:85", "foo > s:443"),
        ("foo > s:91",),
    ),
]
