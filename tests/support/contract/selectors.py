"""Selectors: S1 to S12."""

# ruff: noqa: E501 (a policy in one line is read at one look)

from __future__ import annotations

from contract.rows import Row, egress, ingress, ports
from truth_cases import FOO_80, S, ccnp, cnp

ROWS = [
    Row(
        "S1 no L3 member is anybody",
        ingress("{" + ports("port: '80', protocol: TCP") + "}"),
        ("foo > s:80", "world > s:80", "world6 > s:80", "n2 > s:80", "xfoo > s:80"),
        ("foo > s:81",),
    ),
    Row(
        "S1 on the way out",
        egress("{" + ports("port: '80', protocol: TCP") + "}"),
        ("s > foo:80", "s > world:80", "s > n1:80"),
        ("s > world:81",),
    ),
    Row("S2 an empty list is nobody", ingress("fromEndpoints: []"), (), ("foo > s:80", "world > s:80")),
    Row(
        "S2 with ports too",
        ingress("{fromEndpoints: [], " + ports("port: '80', protocol: TCP") + "}"),
        (),
        ("foo > s:80",),
    ),
    Row("S2 an empty entity list", ingress("fromEntities: []"), (), ("foo > s:80",)),
    Row("S2 an empty CIDR list", egress("toCIDR: []"), (), ("s > world:80",)),
    Row(
        "S3 [{}] is the namespace",
        ingress("fromEndpoints: [{}]"),
        ("foo > s:80", "bar > s:80", "bare > s:80", "dep > s:80"),
        ("xfoo > s:80", "world > s:80", "n2 > s:80"),
    ),
    Row(
        "S4 clusterwide [{}] is every pod",
        ccnp(S + "ingress: [{fromEndpoints: [{}]}]"),
        ("foo > s:80", "xfoo > s:80", "lost > s:80"),
        ("world > s:80", "n2 > s:80"),
    ),
    Row(
        "S4 on the way out",
        ccnp(S + "egress: [{toEndpoints: [{}]}]"),
        ("s > xfoo:80", "s > lost:80"),
        ("s > world:80", "s > n1:80", "s > n2:80"),
    ),
    Row("S5 neither L3 nor L4", ingress("{}"), (), ("foo > s:80",)),
    Row(
        "S6 a foreign namespace in the subject is overridden",
        cnp("endpointSelector: {matchLabels: {app: s, 'k8s:io.kubernetes.pod.namespace': other}}\ningress: [{}]"),
        ("foo > xfoo:80",),
        ("foo > s:80",),
    ),
    Row(
        "S6 a CNP selects nobody elsewhere",
        cnp("endpointSelector: {}\ningress: [{}]"),
        ("foo > xfoo:80",),
        ("xfoo > foo:80", "foo > s:80"),
    ),
    Row(
        "S7 another namespace by its label",
        ingress("fromEndpoints: [{matchLabels: {app: foo, 'k8s:io.kubernetes.pod.namespace': other}}]"),
        ("xfoo > s:80",),
        ("foo > s:80", "xbar > s:80"),
    ),
    Row(
        "S7 without a source prefix",
        ingress("fromEndpoints: [{matchLabels: {'io.kubernetes.pod.namespace': other}}]"),
        ("xfoo > s:80", "xbar > s:80"),
        ("foo > s:80",),
    ),
    Row(
        "S7 by the namespace's labels",
        ingress("fromEndpoints: [{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': red}}]"),
        ("xfoo > s:80", "xbar > s:80"),
        ("foo > s:80",),
    ),
    Row(
        "S7 by the namespace's own name label",
        ingress(
            "fromEndpoints: [{matchLabels: {'io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name': undeclared}}]"
        ),
        ("lost > s:80",),
        ("foo > s:80", "xfoo > s:80"),
    ),
    Row(
        "S7 in an expression",
        ingress(
            "fromEndpoints: [{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: In, values: [other, default]}]}]"
        ),
        ("foo > s:80", "xfoo > s:80"),
        ("lost > s:80",),
    ),
    Row(
        "S7 every namespace, by Exists",
        ingress(
            "fromEndpoints: [{matchLabels: {app: foo}, matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: Exists}]}]"
        ),
        ("foo > s:80", "xfoo > s:80"),
        ("bar > s:80", "lost > s:80"),
    ),
    Row(
        "S7 reserved selectors are left alone",
        ingress("fromEndpoints: [{matchLabels: {'reserved:remote-node': ''}}]"),
        ("n2 > s:80",),
        ("foo > s:80", "world > s:80"),
    ),
    Row(
        "S7 reserved:world",
        egress("toEndpoints: [{matchLabels: {'reserved:world': ''}}]"),
        ("s > world:80", "s > world6:80"),
        ("s > foo:80", "s > n1:80"),
    ),
    Row(
        "S8 labels are ANDed",
        ingress("fromEndpoints: [{matchLabels: {app: foo, zone: b}}]"),
        (),
        ("foo > s:80", "bar > s:80"),
    ),
    Row(
        "S8 entries are ORed",
        ingress("fromEndpoints: [{matchLabels: {app: foo}}, {matchLabels: {zone: b}}]"),
        ("foo > s:80", "bar > s:80"),
        ("bare > s:80",),
    ),
    Row(
        "S8 In",
        ingress("fromEndpoints: [{matchExpressions: [{key: app, operator: In, values: [foo, bar]}]}]"),
        ("foo > s:80", "bar > s:80"),
        ("bare > s:80", "xfoo > s:80"),
    ),
    Row(
        "S8 NotIn takes what has no such label",
        ingress("fromEndpoints: [{matchExpressions: [{key: zone, operator: NotIn, values: [a]}]}]"),
        ("bar > s:80", "bare > s:80"),
        ("foo > s:80", "xbar > s:80"),
    ),
    Row(
        "S8 Exists",
        ingress("fromEndpoints: [{matchExpressions: [{key: zone, operator: Exists}]}]"),
        ("foo > s:80", "bar > s:80"),
        ("bare > s:80",),
    ),
    Row(
        "S8 DoesNotExist",
        ingress("fromEndpoints: [{matchExpressions: [{key: zone, operator: DoesNotExist}]}]"),
        ("bare > s:80",),
        ("foo > s:80", "xbar > s:80", "world > s:80"),
    ),
    Row(
        "S8 labels AND expressions",
        ingress(
            "fromEndpoints: [{matchLabels: {app: foo}, matchExpressions: [{key: zone, operator: In, values: [b]}]}]"
        ),
        (),
        ("foo > s:80", "bar > s:80"),
    ),
    Row(
        "S8 In needs values",
        ingress("fromEndpoints: [{matchExpressions: [{key: app, operator: In}]}]"),
        refused=("spec.ingress[0].fromEndpoints[0].matchExpressions[0]",),
    ),
    Row(
        "S8 an unknown operator",
        ingress("fromEndpoints: [{matchExpressions: [{key: app, operator: Is}]}]"),
        refused=("operator",),
    ),
    Row("S9 L3 AND L4", cnp(FOO_80), ("foo > s:80",), ("foo > s:81", "bar > s:80", "foo > s:80/udp")),
    Row(
        "S9 two entries do not mix",
        ingress(
            "fromEndpoints: [{matchLabels: {app: foo}}]\n  " + ports("port: '80'"),
            "- fromEndpoints: [{matchLabels: {app: bar}}]\n  " + ports("port: '81'"),
        ),
        ("foo > s:80", "bar > s:81"),
        ("foo > s:81", "bar > s:80"),
    ),
    Row(
        "S10 two kinds of member",
        ingress("{fromEndpoints: [{}], fromCIDR: [203.0.113.0/24]}"),
        refused=("combining fromEndpoints and fromCIDR", "spec.ingress[0]"),
    ),
    Row(
        "S10 entities and CIDR sets",
        egress("{toEntities: [world], toCIDRSet: [{cidr: 10.0.0.0/8}]}"),
        refused=("combining",),
    ),
    Row(
        "S10 an empty list does not count as a kind",
        ingress("{fromEndpoints: [], fromEntities: [all]}"),
        (),
        ("foo > s:80",),
    ),
    Row(
        "S11 k8s: is the labels' source",
        ingress("fromEndpoints: [{matchLabels: {'k8s:app': foo}}]"),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
    Row(
        "S11 any: is every source",
        ingress("fromEndpoints: [{matchLabels: {'any:app': foo}}]"),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
    Row(
        "S11 another source is another label",
        ingress("fromEndpoints: [{matchLabels: {'reserved:app': foo}}]"),
        (),
        ("foo > s:80",),
    ),
    Row("S12 both selectors", ccnp("endpointSelector: {}\nnodeSelector: {}\ningress: [{}]"), refused=("exclude",)),
    Row("S12 neither", cnp("ingress: [{}]"), refused=("endpointSelector",)),
    Row("S12 nodeSelector in a CNP", cnp("nodeSelector: {}\ningress: [{}]"), refused=("nodeSelector",)),
    Row("nodeSelector is not enforced yet", ccnp("nodeSelector: {}\ningress: [{}]"), refused=("not enforced yet",)),
    Row(
        "by service account",
        ingress("fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.serviceaccount: default}}]"),
        ("foo > s:80",),
        ("xfoo > s:80", "world > s:80"),
    ),
    Row(
        "a subject by service account",
        cnp("endpointSelector: {matchLabels: {io.cilium.k8s.policy.serviceaccount: payer}}\ningress: [{}]"),
        ("s > foo:80",),
        ("foo > s:80",),
    ),
    Row(
        "by a StatefulSet's pod name",
        cnp(
            "endpointSelector: {matchLabels: {statefulset.kubernetes.io/pod-name: db-0}}\ningress: [{}]",
            namespace="other",
        ),
        ("foo > xfoo:80",),
        ("foo > db:80",),
    ),
    Row(
        "pods of a Deployment",
        cnp("endpointSelector: {matchLabels: {app: dep}}\ningress: [{fromEndpoints: [{matchLabels: {app: foo}}]}]"),
        ("foo > dep:80",),
        ("bar > dep:80",),
    ),
    Row(
        "pods without addresses",
        cnp(
            "endpointSelector: {matchLabels: {app: bare}}\ningress: [{fromEndpoints: [{matchLabels: {app: dep}}]}]"
        ),
        ("dep > bare:80",),
        ("foo > bare:80", "world > bare:80"),
    ),
    Row(
        "a namespace nobody declared",
        cnp("endpointSelector: {}\ningress: [{}]", namespace="undeclared"),
        ("lost > foo:80",),
        ("foo > lost:80",),
    ),
    Row(
        "an unknown field",
        cnp(S + "ingres: [{}]\negress: [{}]"),
        refused=("spec.ingres: unknown field",),
    ),
    Row(
        "a clusterwide policy in a namespace's words",
        ccnp("endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': other}}\ningress: [{}]"),
        ("xfoo > foo:80",),
        ("foo > xfoo:80", "xbar > xfoo:80"),
    ),
]
