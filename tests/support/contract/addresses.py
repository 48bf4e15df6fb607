"""CIDRs: C1 to C6."""

# ruff: noqa: E501 (a policy in one line is read at one look)

from __future__ import annotations

from contract.rows import Row, egress, ingress, ports
from truth_cases import S, both, ccnp, cnp

ROWS = [
    Row(
        "C1 a CIDR is no pod",
        egress("toCIDR: [10.0.0.0/8]"),
        ("s > 10.200.0.1:80",),
        ("s > foo:80", "s > xfoo:80", "s > 10.1.2.1:80"),
    ),
    Row("C1 nor a node", egress("toCIDR: [172.16.0.0/12]"), ("s > 172.30.9.9:80",), ("s > n1:80", "s > n2:80")),
    Row(
        "C1 from inside",
        ingress("fromCIDR: [10.0.0.0/8, 172.30.0.0/16]"),
        ("10.9.9.9 > s:80",),
        ("foo > s:80", "n2 > s:80"),
    ),
    Row(
        "C1 the clusterwide kind too",
        ccnp(S + "egress: [{toCIDR: [10.0.0.0/8]}]"),
        ("s > 10.200.0.1:80",),
        ("s > foo:80",),
    ),
    Row(
        "C2 0.0.0.0/0 is the IPv4 world",
        egress("toCIDR: [0.0.0.0/0]"),
        ("s > world:80", "s > 8.8.8.8:53/udp"),
        ("s > foo:80", "s > n1:80", "s > world6:80"),
    ),
    Row(
        "C2 ::/0 is the IPv6 world",
        egress("toCIDR: ['::/0']"),
        ("s > world6:80",),
        ("s > world:80", "s > foo:80", "s > bare:80"),
    ),
    Row(
        "C3 a bare address",
        egress("toCIDR: [203.0.113.10, '2001:db8::10']"),
        ("s > world:80", "s > world6:80"),
        ("s > world2:80", "s > 2001:db8::11:80"),
    ),
    Row(
        "C3 a set wants a prefix",
        egress("toCIDRSet: [{cidr: 203.0.113.10}]"),
        refused=("spec.egress[0].toCIDRSet[0].cidr",),
    ),
    Row("C3 no address at all", egress("toCIDR: [203.0.113.300]"), refused=("spec.egress[0].toCIDR[0]",)),
    Row(
        "C4 except",
        egress("toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.16/28]}]"),
        ("s > world:80", "s > 203.0.113.32:80"),
        ("s > world2:80", "s > 203.0.113.16:80", "s > 203.0.113.31:80"),
    ),
    Row(
        "C4 an except denies nothing",
        egress("toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.16/28]}]", "- toCIDR: [203.0.113.20/32]"),
        ("s > world2:80", "s > world:80"),
        ("s > 203.0.113.21:80",),
    ),
    Row(
        "C4 another policy may allow what is excepted",
        both(
            egress("toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.20/32]}]"),
            cnp(S + "egress: [{toEntities: [world]}]", "q"),
        ),
        ("s > world2:80",),
    ),
    Row(
        "C4 except outside",
        egress("toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.114.0/28]}]"),
        refused=("spec.egress[0].toCIDRSet[0].except[0]",),
    ),
    Row(
        "C4 except of the other family",
        egress("toCIDRSet: [{cidr: 203.0.113.0/24, except: ['2001:db8::/64']}]"),
        refused=("except[0]",),
    ),
    Row(
        "C4 excepting everything",
        egress("toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.0/24]}]"),
        (),
        ("s > world:80",),
    ),
    Row(
        "C4 two entries with crossed excepts",
        egress(
            "toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.0/28]}, {cidr: 203.0.113.0/25, except: [203.0.113.16/28]}]"
        ),
        ("s > world:80", "s > world2:80"),
    ),
    Row(
        "C4 IPv6",
        egress("toCIDRSet: [{cidr: '2001:db8::/32', except: ['2001:db8::10/128']}]"),
        ("s > 2001:db8::11:80",),
        ("s > world6:80", "s > world:80"),
    ),
    Row(
        "C5 a group by name",
        egress("toCIDRSet: [{cidrGroupRef: offices}]"),
        ("s > world:80", "s > world6:80"),
        ("s > world2:80",),
    ),
    Row(
        "C5 a group with except",
        egress("toCIDRSet: [{cidrGroupRef: offices, except: [203.0.113.10/32]}]"),
        ("s > 203.0.113.9:80", "s > world6:80"),
        ("s > world:80",),
    ),
    Row(
        "C5 a group by its labels",
        ingress("fromCIDRSet: [{cidrGroupSelector: {matchLabels: {site: all}}}]"),
        ("world > s:80",),
        ("world2 > s:80",),
    ),
    Row(
        "C5 an unknown group is nobody",
        egress("toCIDRSet: [{cidrGroupRef: homes}]"),
        (),
        ("s > world:80", "s > foo:80"),
    ),
    Row(
        "C5 two forms at once",
        egress("toCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: offices}]"),
        refused=("exactly one",),
    ),
    Row("C5 no form", egress("toCIDRSet: [{except: [10.0.0.0/8]}]"), refused=("exactly one",)),
    Row(
        "C6 an unknown entity",
        ingress("fromEntities: [everyone]"),
        refused=("unsupported entity", "spec.ingress[0].fromEntities[0]"),
    ),
    Row(
        "deny a CIDR",
        egress("toEntities: [all]", "egressDeny: [{toCIDR: [203.0.113.16/28]}]"),
        ("s > world:80", "s > foo:80"),
        ("s > world2:80",),
    ),
    Row(
        "deny a CIDR with except",
        egress(
            "toEntities: [all]", "egressDeny: [{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.20/32]}]}]"
        ),
        ("s > world2:80",),
        ("s > world:80",),
    ),
    Row(
        "overlapping CIDRs with ports",
        egress(
            "{toCIDR: [203.0.113.0/24], " + ports("port: '80'") + "}",
            "- {toCIDR: [203.0.113.0/28], " + ports("port: '443'") + "}",
        ),
        ("s > world:80", "s > world:443", "s > world2:80"),
        ("s > world2:443",),
    ),
    Row("a prefix with host bits", egress("toCIDR: [203.0.113.77/24]"), ("s > world:80",), ("s > 203.0.114.1:80",)),
    Row(
        "toCIDR through a Service is judged behind it",
        egress("toCIDR: [10.96.0.0/16]"),
        (),
        ("s > default/web:80", "s > 10.96.0.51:80"),
    ),
]
