"""Precedence: D1 to D5; specs, and the kinds of object."""

# ruff: noqa: E501 (a policy in one line is read at one look)

from __future__ import annotations

from contract.rows import FOO, GET, Row, anybody_http, egress, http, ingress, ports
from truth_cases import FOO_80, FROM_FOO, NP_S, S, both, ccnp, cnp, mesh, np

PRECEDENCE = [
    Row(
        "D1 a union over kinds",
        both(
            cnp(FOO_80),
            ccnp(S + "ingress: [{fromEndpoints: [{matchLabels: {app: bar}}]}]"),
            np(NP_S + "ingress: [{ports: [{port: 445}]}]"),
            mesh(S + "ingress: [{fromEntities: [remote-node]}]"),
        ),
        ("foo > s:80", "bar > s:81", "xbar > s:9", "world > s:445", "n2 > s:1"),
        ("foo > s:81", "world > s:80"),
    ),
    Row(
        "D2 a wide deny beats a narrow allow",
        ingress(FOO + "\n  " + ports("port: '80'"), "ingressDeny: [{fromEntities: [cluster]}]"),
        (),
        ("foo > s:80",),
    ),
    Row(
        "D2 a narrow deny beats a wide allow",
        ingress("fromEntities: [all]", "ingressDeny: [{" + FOO + ", " + ports("port: '80', protocol: TCP") + "}]"),
        ("foo > s:81", "bar > s:80", "foo > s:80/udp"),
        ("foo > s:80",),
    ),
    Row(
        "D2 across kinds",
        both(np(NP_S + "ingress: [{}]"), ccnp(S + "ingressDeny: [{" + FOO + "}]")),
        ("bar > s:80",),
        ("foo > s:80", "xfoo > s:80"),
    ),
    Row(
        "D2 a deny of another namespace is no deny here",
        both(cnp(FROM_FOO), cnp(S + "ingressDeny: [{" + FOO + "}]", namespace="other")),
        ("foo > s:80",),
    ),
    Row(
        "D3 a deny of 80 leaves the rest",
        cnp(FROM_FOO + "\ningressDeny: [{" + ports("port: '80'") + "}]"),
        ("foo > s:81", "foo > s:8/icmp"),
        ("foo > s:80", "foo > s:80/udp"),
    ),
    Row("D2 a deny for nobody", cnp(FROM_FOO + "\ningressDeny: [{}]"), ("foo > s:80",), ("bar > s:80",)),
    Row(
        "D2 a range cut by a deny",
        ingress(
            "{" + ports("port: '80', endPort: 500") + "}",
            "ingressDeny: [{" + ports("port: '81', endPort: 443, protocol: TCP") + "}]",
        ),
        ("foo > s:80", "foo > s:444", "foo > s:100/udp"),
        ("foo > s:81", "foo > s:443"),
    ),
    Row(
        "D5 a redirect beats a plain allow",
        both(cnp(FOO_80), anybody_http("path: /x").replace("name: p", "name: q")),
        (),
        ("bar > s:81",),
        ("foo > s:80", "foo > s:80 GET /y", "bar > s:80 GET /x"),
        ("bar > s:80 GET /y",),
    ),
    Row(
        "deny rules have no L7",
        ingress("fromEntities: [all]", "ingressDeny: [{" + http("{path: /x}") + "}]"),
        refused=("spec.ingressDeny[0].toPorts[0]",),
    ),
    Row(
        "deny rules have no toFQDNs",
        egress("toEntities: [all]", "egressDeny: [{toFQDNs: [{matchName: a.b}]}]"),
        refused=("toFQDNs",),
    ),
    Row(
        "spec and specs",
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec: {endpointSelector: {matchLabels: {app: s}}, ingress: [{"
        + FOO
        + "}]}\nspecs: [{endpointSelector: {matchLabels: {app: bar}}, ingress: [{}]}]\n",
        ("foo > s:80",),
        ("bar > s:80", "foo > bar:80"),
    ),
    Row(
        "neither spec nor specs",
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\n",
        refused=("spec",),
    ),
    Row(
        "the later of two of one name",
        both(cnp(S + "ingress: [{}]"), cnp(FROM_FOO)),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
    Row(
        "a CCNP that names a namespace is the cluster's",
        ccnp(S + "ingress: [{}]").replace("name: cw", "name: cw, namespace: other"),
        (),
        ("foo > s:80",),
    ),
]

OWN_KINDS = [
    Row("MeshNetworkPolicy", mesh(FROM_FOO), ("foo > s:80",), ("bar > s:80", "xfoo > s:80")),
    Row(
        "MeshNetworkPolicy with L7",
        mesh(S + "ingress: [{" + http("{path: /x}") + "}]"),
        (),
        (),
        (f"{GET} /x",),
        (f"{GET} /y",),
    ),
    Row(
        "ClusterMeshNetworkPolicy",
        mesh(S + "ingress: [{" + FOO + "}]", "ClusterMeshNetworkPolicy"),
        ("foo > s:80", "xfoo > s:80"),
        ("bar > s:80",),
    ),
    Row("refused like Cilium's", mesh(S + "ingress: []"), refused=("MeshNetworkPolicy default/m",)),
    Row(
        "an unknown kind of ours",
        mesh(FROM_FOO).replace("MeshNetworkPolicy", "MeshPolicy"),
        refused=("MeshPolicy",),
    ),
    Row(
        "Cilium's kind under an old version",
        cnp(FROM_FOO).replace("cilium.io/v2", "cilium.io/v1"),
        refused=("cilium.io/v1",),
    ),
    Row(
        "what is not ours is left alone",
        both(cnp(FROM_FOO), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n"),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
]

ROWS = [*PRECEDENCE, *OWN_KINDS]
