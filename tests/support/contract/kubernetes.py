"""Kubernetes' NetworkPolicy, with the cases of its own conformance tests."""

# ruff: noqa: E501 (a policy in one line is read at one look)

from __future__ import annotations

from contract.rows import Row
from truth_cases import NP_S, both, np

ISOLATE_ALL = "podSelector: {}\n"


def allow_from_other(selector: str) -> str:
    return np(f"{NP_S}ingress: [{{from: [{{namespaceSelector: {selector}}}]}}]")


ROWS = [
    Row("default deny ingress", np(ISOLATE_ALL), ("s > xfoo:80",), ("foo > s:80", "world > s:80", "n2 > s:80")),
    Row(
        "default deny egress",
        np(ISOLATE_ALL + "policyTypes: [Egress]"),
        ("xfoo > s:80", "s > dns:53/udp"),
        ("s > foo:80", "s > world:80", "s > world:53/udp"),
    ),
    Row(
        "default deny both",
        np(ISOLATE_ALL + "policyTypes: [Ingress, Egress]"),
        ("n1 > s:80",),
        ("s > xfoo:80", "xfoo > s:80"),
    ),
    Row("the node's probes pass", np(ISOLATE_ALL), ("n1 > s:80", "n2 > bar:8080"), ("n2 > s:80",)),
    Row(
        "allow all",
        both(np(ISOLATE_ALL), np(ISOLATE_ALL + "ingress: [{}]", "all")),
        ("foo > s:80", "world > s:9/sctp", "foo > s:8/icmp"),
    ),
    Row(
        "allow all egress",
        np(ISOLATE_ALL + "policyTypes: [Egress]\negress: [{}]"),
        ("s > world:80", "s > xfoo:80", "s > n2:1"),
    ),
    Row("an empty ingress list", np(NP_S + "ingress: []"), (), ("foo > s:80",)),
    Row("an egress section alone isolates both", np(NP_S + "egress: [{}]"), ("s > foo:80",), ("foo > s:80",)),
    Row("an empty egress section isolates ingress", np(NP_S + "egress: []"), ("s > foo:80",), ("foo > s:80",)),
    Row(
        "rules without their type have no effect",
        np(NP_S + "policyTypes: [Ingress]\negress: [{to: [{podSelector: {matchLabels: {app: foo}}}]}]"),
        ("s > bar:80",),
        ("foo > s:80",),
    ),
    Row(
        "podSelector is the namespace's",
        np(NP_S + "ingress: [{from: [{podSelector: {matchLabels: {app: foo}}}]}]"),
        ("foo > s:80",),
        ("xfoo > s:80", "bar > s:80"),
    ),
    Row(
        "an empty podSelector",
        np(NP_S + "ingress: [{from: [{podSelector: {}}]}]"),
        ("foo > s:80", "bare > s:80"),
        ("xfoo > s:80", "world > s:80", "default/proxy > s:80"),
    ),
    Row("podSelector left out selects all", np("policyTypes: [Ingress]"), (), ("foo > s:80", "foo > bar:80")),
    Row(
        "namespaceSelector",
        allow_from_other("{matchLabels: {team: red}}"),
        ("xfoo > s:80", "db > s:80"),
        ("foo > s:80", "lost > s:80"),
    ),
    Row(
        "an empty namespaceSelector is every pod",
        allow_from_other("{}"),
        ("foo > s:80", "xfoo > s:80", "lost > s:80"),
        ("world > s:80", "n2 > s:80"),
    ),
    Row(
        "by the namespace's name",
        allow_from_other("{matchLabels: {kubernetes.io/metadata.name: undeclared}}"),
        ("lost > s:80",),
        ("foo > s:80",),
    ),
    Row(
        "namespaces by expression, In",
        allow_from_other("{matchExpressions: [{key: team, operator: In, values: [red, green]}]}"),
        ("xfoo > s:80",),
        ("foo > s:80",),
    ),
    Row(
        "namespaces by expression, NotIn",
        allow_from_other("{matchExpressions: [{key: team, operator: NotIn, values: [red]}]}"),
        ("foo > s:80", "lost > s:80"),
        ("xfoo > s:80", "world > s:80", "n2 > s:80"),
    ),
    Row(
        "namespaces by expression, DoesNotExist",
        allow_from_other("{matchExpressions: [{key: team, operator: DoesNotExist}]}"),
        ("lost > s:80",),
        ("foo > s:80", "world > s:80", "n2 > s:80"),
    ),
    Row(
        "namespace AND pod",
        np(
            NP_S
            + "ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: foo}}}]}]"
        ),
        ("xfoo > s:80",),
        ("xbar > s:80", "foo > s:80"),
    ),
    Row(
        "namespace OR pod",
        np(
            NP_S
            + "ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}, {podSelector: {matchLabels: {app: foo}}}]}]"
        ),
        ("xfoo > s:80", "xbar > s:80", "foo > s:80"),
        ("bar > s:80",),
    ),
    Row(
        "an empty from is anybody",
        np(NP_S + "ingress: [{from: [], ports: [{port: 80}]}]"),
        ("foo > s:80", "world > s:80"),
        ("foo > s:81", "foo > s:80/udp"),
    ),
    Row(
        "an empty ports is every port",
        np(NP_S + "ingress: [{from: [{podSelector: {}}], ports: []}]"),
        ("foo > s:1", "foo > s:8/icmp"),
        ("world > s:1",),
    ),
    Row(
        "ports are TCP unless said",
        np(NP_S + "ingress: [{ports: [{port: 80}]}]"),
        ("foo > s:80",),
        ("foo > s:80/udp", "foo > s:80/sctp", "foo > s:8/icmp"),
    ),
    Row("a protocol alone", np(NP_S + "ingress: [{ports: [{protocol: UDP}]}]"), ("foo > s:1/udp",), ("foo > s:1",)),
    Row("an empty port item is TCP", np(NP_S + "ingress: [{ports: [{}]}]"), ("foo > s:1",), ("foo > s:1/udp",)),
    Row(
        "a port of SCTP",
        np(NP_S + "ingress: [{ports: [{port: 9999, protocol: SCTP}]}]"),
        ("foo > s:9999/sctp",),
        ("foo > s:9999", "foo > s:9998/sctp"),
    ),
    Row(
        "SCTP by name",
        np(NP_S + "ingress: [{ports: [{port: sig, protocol: SCTP}]}]"),
        ("foo > s:9999/sctp",),
        ("foo > s:9999",),
    ),
    Row("a named port in", np(NP_S + "ingress: [{ports: [{port: alt}]}]"), ("foo > s:81",), ("foo > s:80",)),
    Row(
        "a named port out is each peer's",
        np(NP_S + "policyTypes: [Egress]\negress: [{ports: [{port: web}]}]"),
        ("s > foo:80", "s > bar:8080"),
        ("s > bar:80", "s > world:80"),
    ),
    Row(
        "a named port of another protocol",
        np(NP_S + "ingress: [{ports: [{port: names}]}]"),
        (),
        ("foo > s:53/udp", "foo > s:53/tcp"),
    ),
    Row(
        "endPort",
        np(NP_S + "ingress: [{ports: [{port: 80, endPort: 90}]}]"),
        ("foo > s:80", "foo > s:90"),
        ("foo > s:91", "foo > s:79"),
    ),
    Row(
        "endPort equal",
        np(NP_S + "ingress: [{ports: [{port: 80, endPort: 80}]}]"),
        ("foo > s:80",),
        ("foo > s:81",),
    ),
    Row(
        "endPort below port",
        np(NP_S + "ingress: [{ports: [{port: 80, endPort: 79}]}]"),
        refused=("NetworkPolicy default/np", "spec.ingress[0].ports[0].endPort"),
    ),
    Row("endPort beside a name", np(NP_S + "ingress: [{ports: [{port: web, endPort: 90}]}]"), refused=("endPort",)),
    Row("endPort alone", np(NP_S + "ingress: [{ports: [{endPort: 90}]}]"), refused=("endPort",)),
    Row(
        "ports of two rules do not mix",
        np(
            NP_S
            + "ingress: [{from: [{podSelector: {matchLabels: {app: foo}}}], ports: [{port: 80}]}, {from: [{podSelector: {matchLabels: {app: bar}}}], ports: [{port: 81}]}]"
        ),
        ("foo > s:80", "bar > s:81"),
        ("foo > s:81", "bar > s:80"),
    ),
    Row(
        "stacked policies with other ports",
        both(
            np(NP_S + "ingress: [{ports: [{port: 80}]}]", "a"), np(NP_S + "ingress: [{ports: [{port: 81}]}]", "b")
        ),
        ("foo > s:80", "foo > s:81"),
        ("foo > s:82",),
    ),
    Row(
        "stacked: one for all, one for some",
        both(np(ISOLATE_ALL, "a"), np(NP_S + "ingress: [{from: [{podSelector: {matchLabels: {app: foo}}}]}]", "b")),
        ("foo > s:80",),
        ("bar > s:80", "s > foo:80"),
    ),
    Row(
        "ingress and egress in one policy",
        np(
            NP_S
            + "policyTypes: [Ingress, Egress]\ningress: [{from: [{podSelector: {matchLabels: {app: foo}}}]}]\negress: [{to: [{podSelector: {matchLabels: {app: bar}}}]}]"
        ),
        ("foo > s:80", "s > bar:80"),
        ("bar > s:80", "s > foo:80"),
    ),
    Row(
        "egress to a namespace, with DNS",
        np(
            NP_S
            + "policyTypes: [Egress]\negress: [{to: [{namespaceSelector: {matchLabels: {team: red}}}]}, {ports: [{port: 53, protocol: UDP}]}]"
        ),
        ("s > xfoo:80", "s > world:53/udp", "s > foo:53/udp"),
        ("s > foo:80", "s > world:53/tcp"),
    ),
    Row(
        "ipBlock outside",
        np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]"),
        ("world > s:80",),
        ("world6 > s:80", "foo > s:80", "8.8.8.8 > s:80"),
    ),
    Row(
        "ipBlock of one pod",
        np(NP_S + "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 10.1.1.2/32}}]}]"),
        ("s > foo:80", "s > 10.1.1.2:80"),
        ("s > bar:80", "s > xbar:80"),
    ),
    Row(
        "ipBlock with except, among pods",
        np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.1.0/24]}}]}]"),
        ("bar > s:80", "xfoo > s:80"),
        ("foo > s:80", "xbar > s:80"),
    ),
    Row(
        "what one excepts another allows",
        both(
            np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.1.0/24]}}]}]", "a"),
            np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 10.1.1.2/32}}]}]", "b"),
        ),
        ("foo > s:80", "bar > s:80"),
        ("xbar > s:80",),
    ),
    Row(
        "overlapping blocks in one rule",
        np(
            NP_S
            + "ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.1.2/32]}}, {ipBlock: {cidr: 10.1.1.0/30}}]}]"
        ),
        ("foo > s:80", "bar > s:80", "xbar > s:80"),
        ("world > s:80",),
    ),
    Row(
        "ipBlock 0.0.0.0/0 is every pod too",
        np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"),
        ("world > s:80", "foo > s:80", "xfoo > s:80"),
        ("world6 > s:80",),
    ),
    Row(
        "ipBlock 0.0.0.0/0 but for one pod",
        np(NP_S + "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.1.1.2/32]}}]}]"),
        ("s > world:80", "s > bar:80"),
        ("s > foo:80",),
    ),
    Row(
        "the internet, and no pod, whether or not it has an address",
        np(
            f"{NP_S}policyTypes: [Egress]\negress: [{{to: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]}}}}]}}]"
        ),
        ("s > world:80",),
        ("s > foo:80", "s > bare:80", "s > dep:80", "s > 192.168.1.1:80"),
    ),
    Row(
        "everywhere, a pod without an address too",
        np(f"{NP_S}policyTypes: [Egress]\negress: [{{to: [{{ipBlock: {{cidr: 0.0.0.0/0}}}}]}}]"),
        ("s > world:80", "s > foo:80", "s > bare:80"),
        ("s > world6:80",),
    ),
    Row(
        "ICMP is judged over its own family",
        np(f"{NP_S}policyTypes: [Egress]\negress: [{{to: [{{ipBlock: {{cidr: 'fd01::/64'}}}}]}}]"),
        ("s > foo:128/icmp6", "s > fd01::1:2:80"),
        ("s > foo:8/icmp", "s > foo:80"),
    ),
    Row(
        "a Service of IPv4 is judged over IPv4",
        np(f"{NP_S}policyTypes: [Egress]\negress: [{{to: [{{ipBlock: {{cidr: 10.1.1.2/32}}}}]}}]"),
        ("s > default/web:80", "s > 10.96.0.51:80"),
        ("s > fd01::1:2:80", "s > direct:80"),
    ),
    Row(
        "ipBlock with another selector",
        np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]"),
        refused=("ipBlock",),
    ),
    Row(
        "ipBlock excepting what is outside",
        np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]"),
        refused=("except[0]",),
    ),
    Row("an empty peer", np(NP_S + "ingress: [{from: [{}]}]"), refused=("spec.ingress[0].from[0]",)),
    Row("an unknown policyType", np(NP_S + "policyTypes: [Both]"), refused=("policyTypes[0]",)),
    Row("a misspelt field", np(NP_S + "ingress: [{form: []}]"), refused=("spec.ingress[0].form",)),
    Row(
        "pods by expression",
        np("podSelector: {matchExpressions: [{key: app, operator: In, values: [s, bar]}]}"),
        ("s > foo:80",),
        ("foo > s:80", "foo > bar:80"),
    ),
    Row(
        "pods by NotIn",
        np("podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [s]}]}"),
        ("foo > s:80",),
        ("s > foo:80", "s > bare:80"),
    ),
    Row(
        "to a Service is to its pods",
        np(
            NP_S
            + "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {app: foo}}}], ports: [{port: 80}]}]"
        ),
        ("s > default/web:80",),
        ("s > foo:81", "s > default/abroad:80"),
    ),
    Row("a policy of another namespace", np(NP_S, namespace="other"), ("foo > s:80",)),
    Row(
        "the old apiVersion",
        np(NP_S).replace("networking.k8s.io/v1", "extensions/v1beta1"),
        refused=("extensions/v1beta1",),
    ),
]
