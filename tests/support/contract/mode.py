"""Enforcement: E1 to E11, and Weft's exceptions."""

from __future__ import annotations

from contract.rows import FOO, OFF, TO_FOO, Row, anybody_http, egress, http, ingress
from truth_cases import FROM_FOO, S, both, cnp

ROWS = [
    Row(
        "E1 no policy", "", ("foo > s:80", "world > s:1", "s > world:1", "lost > s:9/udp", "n2 > s:80", "s > n1:22")
    ),
    Row(
        "E1 a policy about others", cnp("endpointSelector: {matchLabels: {app: z}}\ningress: [{}]"), ("foo > s:80",)
    ),
    Row("E2 ingress only", cnp(FROM_FOO), ("foo > s:80", "s > bar:80", "s > world:53/udp"), ("bar > s:80",)),
    Row(
        "E2 egress only",
        cnp(f"{S}egress: [{{{TO_FOO}}}]"),
        ("bar > s:80", "s > foo:1"),
        ("s > bar:80", "s > n1:80"),
    ),
    Row(
        "E2 deny lists count as lists",
        cnp(f"{S}egressDeny: [{{{TO_FOO}}}]"),
        ("bar > s:80",),
        ("s > bar:80", "s > foo:80"),
    ),
    Row("E3 ingress [{}]", ingress("{}"), ("s > foo:80",), ("foo > s:80", "world > s:80", "n2 > s:80")),
    Row("E3 egress [{}]", egress("{}"), ("foo > s:80",), ("s > foo:80", "s > world:80")),
    Row("E4 no list", cnp(S), ("bar > s:80",), refused=("CiliumNetworkPolicy default/p", "spec")),
    Row("E4 only empty lists", cnp(S + "ingress: []\negress: []"), refused=("ingress",)),
    Row("E4 one list is enough", cnp(S + "ingress: []\negress: [{}]"), ("foo > s:80",), ("s > foo:80",)),
    Row(
        "E5 deny without default deny",
        cnp(f"{S}{OFF}ingressDeny: [{{{FOO}}}]"),
        ("bar > s:80", "world > s:80"),
        ("foo > s:80",),
    ),
    Row("E5 allow without default deny", cnp(f"{S}{OFF}ingress: [{{{FOO}}}]"), ("bar > s:80", "foo > s:80")),
    Row(
        "E5 egress switch leaves ingress",
        cnp(f"{S}enableDefaultDeny: {{egress: false}}\ningress: [{{{FOO}}}]\negress: [{{{TO_FOO}}}]"),
        ("s > bar:80",),
        ("bar > s:80",),
    ),
    Row(
        "E5 true without a list",
        cnp(f"{S}enableDefaultDeny: {{egress: true}}\ningress: [{{{FOO}}}]"),
        ("foo > s:80",),
        ("s > foo:80",),
    ),
    Row(
        "E5 empty object is the default",
        cnp(f"{S}enableDefaultDeny: {{}}\ningress: [{{{FOO}}}]"),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
    Row(
        "E5 null is refused",
        cnp(f"{S}enableDefaultDeny: {{ingress: null}}\ningress: [{{{FOO}}}]"),
        refused=("spec.enableDefaultDeny.ingress",),
    ),
    Row(
        "E6 one that denies by default is enough",
        both(
            cnp(f"{S}{OFF}ingressDeny: [{{{FOO}}}]"),
            cnp(f"{S}ingress: [{{fromEndpoints: [{{matchLabels: {{app: bar}}}}]}}]", "q"),
        ),
        ("bar > s:80",),
        ("foo > s:80", "xbar > s:80"),
    ),
    Row(
        "E6 the other direction stays off",
        both(cnp(f"{S}enableDefaultDeny: {{egress: false}}\negress: [{{{TO_FOO}}}]"), cnp(FROM_FOO, "q")),
        ("s > bar:80",),
        ("bar > s:80",),
    ),
    Row(
        "E7 L7 without default deny",
        cnp(f"{S}{OFF}ingress: [{{{http('{method: GET}')}}}]"),
        ("foo > s:81",),
        (),
        ("foo > s:80", "foo > s:80 POST /", "foo > s:80 GET /"),
    ),
    Row(
        "E7 beside one that denies by default",
        both(cnp(f"{S}{OFF}ingress: [{{{http('{method: GET}')}}}]"), cnp(FROM_FOO, "q")),
        ("foo > s:81",),
        ("bar > s:81",),
        ("foo > s:80 POST /", "bar > s:80 POST /"),
    ),
    Row(
        "E9 a deny alone",
        cnp(f"{S}ingressDeny: [{{{FOO}}}]"),
        ("s > foo:80",),
        ("foo > s:80", "bar > s:80", "world > s:80"),
    ),
    Row(
        "E10 egress at source and ingress at destination",
        both(
            cnp(FROM_FOO),
            cnp(
                "endpointSelector: {matchLabels: {app: foo}}\negress: [{toEndpoints: [{matchLabels: {app: bar}}]}]",
                "q",
            ),
        ),
        (),
        ("foo > s:80",),
    ),
    Row(
        "E10 both say yes",
        both(
            cnp(FROM_FOO),
            cnp(
                "endpointSelector: {matchLabels: {app: foo}}\negress: [{toEndpoints: [{matchLabels: {app: s}}]}]",
                "q",
            ),
        ),
        ("foo > s:80",),
        ("foo > bar:80",),
    ),
    Row(
        "E10 a reply's right is no right to connect",
        both(cnp(f"{S}egress: [{{{TO_FOO}}}]"), cnp(f"{S}ingress: [{{}}]", "q")),
        ("s > foo:80",),
        ("foo > s:80",),
    ),
    Row(
        "E11 from its own node",
        cnp(f"{S}ingress: [{{}}]"),
        ("n1 > s:80", "n1 > s:8/icmp"),
        ("n2 > s:80", "default/proxy > s:80"),
    ),
    Row(
        "E11 also where L7 rules apply",
        anybody_http("path: /only"),
        proxy=("n1 > s:80 GET /other",),
    ),
    Row("E11 an explicit deny wins", ingress("{}", "ingressDeny: [{fromEntities: [host]}]"), (), ("n1 > s:80",)),
    Row(
        "DNS of the node is always reached",
        egress("{}"),
        ("s > dns:53/udp", "s > dns:53/tcp"),
        ("s > dns:54/udp", "s > world:53/udp"),
    ),
    Row(
        "unless denied",
        egress("{}", "egressDeny: [{toPorts: [{ports: [{port: '53', protocol: UDP}]}]}]"),
        ("s > dns:53/tcp",),
        ("s > dns:53/udp",),
    ),
]
