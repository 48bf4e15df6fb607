"""What the specification of network policy says, one row a statement: policies in, who may connect to whom out.

The rows are written from the meaning of the fields, not from the code. Each probe is tried on IPv4 and IPv6,
and where a name stands for a pod on each node (`foo`, `bar`) from the same node and across nodes.

Probe: `FROM > TO:PORT` (TCP), `:PORT/udp`, `:ping`. Names: s (app=s, the subject), foo, bar (namespace default),
xfoo, xbar (same labels, namespace other, whose label is team=red), world, world2 (outside), host (the node of s),
svc (a Service in front of foo, port 8000 to the port named `web` of foo = 80).
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Case:
    id: str
    policies: str
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    #: allowed by policy through the proxy, which answers HTTP requests, with 403 or by the server, and refuses all else
    needs_proxy: tuple[str, ...] = ()
    #: of those: a plain allow beside the L7 rule lifts its limits, so any bytes pass, through the proxy
    lifted: tuple[str, ...] = ()
    #: the policy is refused with a reason that contains this, and changes nothing
    refused: str = ""


def cnp(spec: str, name: str = "p", namespace: str = "default") -> str:
    return (
        f"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n" + indent(spec)
    )


def ccnp(spec: str, name: str = "cw") -> str:
    return (
        f"apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n"
        + indent(spec)
    )


def np(spec: str, name: str = "np", namespace: str = "default") -> str:
    return (
        f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n" + indent(spec)
    )


def mesh(spec: str, kind: str = "MeshNetworkPolicy") -> str:
    namespace = "" if kind.startswith("Cluster") else ", namespace: default"
    return f"apiVersion: weft.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: m{namespace}}}\nspec:\n" + indent(spec)


def indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in dedent(text).strip().splitlines())


def both(*documents: str) -> str:
    return "---\n".join(documents)


S = "endpointSelector: {matchLabels: {app: s}}\n"
FROM_FOO = S + "ingress:\n- fromEndpoints: [{matchLabels: {app: foo}}]"
FOO_80 = FROM_FOO + "\n  toPorts: [{ports: [{port: '80', protocol: TCP}]}]"
FOO_80_GET = FROM_FOO + "\n  toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]"
NP_S = "podSelector: {matchLabels: {app: s}}\n"

ENFORCEMENT = [
    Case("E1 no policy: everything is allowed", "", ("foo > s:80", "xbar > s:81", "world > s:80", "s > foo:80")),
    Case(
        "E2 an ingress list turns ingress default deny on, egress stays open",
        cnp(FROM_FOO),
        ("foo > s:80", "s > bar:80", "s > world:80"),
        ("bar > s:80", "xfoo > s:80", "world > s:80"),
    ),
    Case(
        "E2 an egress list turns egress default deny on, ingress stays open",
        cnp(S + "egress:\n- toEndpoints: [{matchLabels: {app: foo}}]"),
        ("s > foo:80", "bar > s:80", "world > s:80"),
        ("s > bar:80", "s > xfoo:80", "s > world:80"),
    ),
    Case(
        "E3 an empty rule allows nothing", cnp(S + "ingress: [{}]"), ("s > foo:80",), ("foo > s:80", "world > s:80")
    ),
    Case("E3 an empty egress rule allows nothing", cnp(S + "egress: [{}]"), ("foo > s:80",), ("s > foo:80",)),
    Case(
        "E4 a policy with four empty lists is refused",
        cnp(S + "ingress: []"),
        ("bar > s:80",),
        refused="at least one",
    ),
    Case(
        "E5 a deny with default deny off leaves the others alone",
        cnp(S + "enableDefaultDeny: {ingress: false}\ningressDeny:\n- fromEndpoints: [{matchLabels: {app: foo}}]"),
        ("bar > s:80", "world > s:80"),
        ("foo > s:80",),
    ),
    Case(
        "E5 an allow with default deny off changes nothing",
        cnp(FROM_FOO + "\nenableDefaultDeny: {ingress: false}"),
        ("foo > s:80", "bar > s:80"),
    ),
    Case(
        "E6 one selecting rule with default deny is enough",
        both(
            cnp(
                S
                + "enableDefaultDeny: {ingress: false}\ningressDeny:\n- fromEndpoints: [{matchLabels: {app: foo}}]"
            ),
            cnp(S + "ingress:\n- fromEndpoints: [{matchLabels: {app: bar}}]", name="q"),
        ),
        ("bar > s:80",),
        ("foo > s:80", "xbar > s:80", "world > s:80"),
    ),
    Case(
        "E9 a policy of denies alone drops everything",
        cnp(S + "ingressDeny:\n- fromEndpoints: [{matchLabels: {app: foo}}]"),
        ("s > foo:80",),
        ("foo > s:80", "bar > s:80", "world > s:80"),
    ),
    Case(
        "E10 replies pass; the other direction is judged by itself",
        both(
            cnp(S + "egress:\n- toEndpoints: [{matchLabels: {app: foo}}]\n  toPorts: [{ports: [{port: '80'}]}]"),
            cnp(S + "ingress: [{}]", name="q"),
        ),
        ("s > foo:80", "s > foo:80/udp"),
        ("foo > s:80", "s > foo:81"),
    ),
    Case(
        "E10 both ends must allow: the destination says no",
        both(
            cnp(S + "egress:\n- toEndpoints: [{matchLabels: {app: foo}}]"),
            cnp("endpointSelector: {matchLabels: {app: foo}}\ningress: [{}]", name="q"),
        ),
        (),
        ("s > foo:80",),
    ),
    Case(
        "E11 the node reaches its own pods under default deny",
        cnp(S + "ingress: [{}]"),
        ("host > s:80",),
        ("foo > s:80",),
    ),
    Case(
        "E11 an explicit deny holds for the node too",
        cnp(S + "ingressDeny:\n- fromEntities: [host]"),
        (),
        ("host > s:80",),
    ),
]

SELECTORS = [
    Case(
        "S1 ports without peers: anybody",
        cnp(S + "ingress:\n- toPorts: [{ports: [{port: '80', protocol: TCP}]}]"),
        ("foo > s:80", "xbar > s:80", "world > s:80"),
        ("foo > s:81", "world > s:81", "foo > s:80/udp"),
    ),
    Case(
        "S2 an empty list of peers selects nobody",
        cnp(S + "ingress:\n- fromEndpoints: []"),
        (),
        ("foo > s:80", "world > s:80"),
    ),
    Case(
        "S2 nobody on a port is still nobody",
        cnp(S + "ingress:\n- fromEndpoints: []\n  toPorts: [{ports: [{port: '80', protocol: TCP}]}]"),
        (),
        ("foo > s:80", "world > s:80"),
    ),
    Case(
        "S3 an empty selector means the policy's own namespace",
        cnp(S + "ingress:\n- fromEndpoints: [{}]"),
        ("foo > s:80", "bar > s:80"),
        ("xfoo > s:80", "world > s:80"),
    ),
    Case(
        "S4 an empty selector in a cluster-wide policy means every pod",
        ccnp(S + "ingress:\n- fromEndpoints: [{}]"),
        ("foo > s:80", "xfoo > s:80"),
        ("world > s:80",),
    ),
    Case(
        "S6 a foreign namespace in the subject is overridden by the policy's",
        cnp(
            "endpointSelector: {matchLabels: {app: bar, 'k8s:io.kubernetes.pod.namespace': other}}\ningress: [{}]",
        ),
        ("foo > xbar:80",),
        ("foo > bar:80",),
    ),
    Case(
        "S7 a peer in another namespace is named by its namespace",
        cnp(S + "ingress:\n- fromEndpoints: [{matchLabels: {app: foo, 'k8s:io.kubernetes.pod.namespace': other}}]"),
        ("xfoo > s:80",),
        ("foo > s:80", "xbar > s:80"),
    ),
    Case(
        "S7 a peer is named by a label of its namespace",
        cnp(S + "ingress:\n- fromEndpoints: [{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': red}}]"),
        ("xfoo > s:80", "xbar > s:80"),
        ("foo > s:80",),
    ),
    Case(
        "S8 labels and expressions are ANDed",
        cnp(
            S
            + "ingress:\n- fromEndpoints:\n  - matchLabels: {app: foo}\n    matchExpressions: [{key: tier, operator: Exists}]"
        ),
        (),
        ("foo > s:80", "bar > s:80"),
    ),
    Case(
        "S8 entries of a list are ORed",
        cnp(S + "ingress:\n- fromEndpoints: [{matchLabels: {app: foo}}, {matchLabels: {app: bar}}]"),
        ("foo > s:80", "bar > s:80"),
        ("xfoo > s:80", "world > s:80"),
    ),
    Case(
        "S8 In",
        cnp(S + "ingress:\n- fromEndpoints: [{matchExpressions: [{key: app, operator: In, values: [foo, baz]}]}]"),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
    Case(
        "S8 NotIn",
        cnp(S + "ingress:\n- fromEndpoints: [{matchExpressions: [{key: app, operator: NotIn, values: [foo]}]}]"),
        ("bar > s:80",),
        ("foo > s:80", "xbar > s:80"),
    ),
    Case(
        "S8 Exists",
        cnp(S + "ingress:\n- fromEndpoints: [{matchExpressions: [{key: color, operator: Exists}]}]"),
        ("bar > s:80",),
        ("foo > s:80",),
    ),
    Case(
        "S8 DoesNotExist",
        cnp(S + "ingress:\n- fromEndpoints: [{matchExpressions: [{key: color, operator: DoesNotExist}]}]"),
        ("foo > s:80",),
        ("bar > s:80", "xfoo > s:80"),
    ),
    Case("S9 peer AND port", cnp(FOO_80), ("foo > s:80",), ("foo > s:81", "bar > s:80")),
    Case(
        "S10 two kinds of peers in one entry are refused",
        cnp(S + "ingress:\n- fromEndpoints: [{}]\n  fromCIDR: [10.0.0.0/8]"),
        ("bar > s:80", "world > s:80"),
        refused="not supported",
    ),
    Case(
        "S11 the prefix k8s: names the source",
        cnp(
            "endpointSelector: {matchLabels: {'k8s:app': s}}\ningress:\n- fromEndpoints: [{matchLabels: {'k8s:app': foo}}]"
        ),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
    Case(
        "S11 the prefix any: takes every source",
        cnp(
            "endpointSelector: {matchLabels: {'any:app': s}}\ningress:\n- fromEndpoints: [{matchLabels: {'any:app': foo}}]"
        ),
        ("foo > s:80",),
        ("bar > s:80",),
    ),
    Case(
        "S12 two subjects are refused",
        ccnp("endpointSelector: {}\nnodeSelector: {}\ningress: [{}]"),
        ("bar > s:80",),
        refused="nodeSelector",
    ),
]

CIDR_AND_ENTITIES = [
    Case(
        "C1 a CIDR never matches pods, whatever their addresses",
        cnp(S + "egress:\n- toCIDR: [10.0.0.0/8, 'fd00::/8']"),
        (),
        ("s > foo:80", "s > world:80"),
    ),
    Case(
        "C2 0.0.0.0/0 is the world",
        cnp(S + "egress:\n- toCIDR: [0.0.0.0/0, '::/0']"),
        ("s > world:80",),
        ("s > foo:80",),
    ),
    Case(
        "C2 0.0.0.0/0 on the way in",
        cnp(S + "ingress:\n- fromCIDR: [0.0.0.0/0, '::/0']"),
        ("world > s:80", "world2 > s:80"),
        ("foo > s:80",),
    ),
    Case(
        "C3 a bare address is a prefix of one",
        cnp(S + "egress:\n- toCIDR: [203.0.113.10, '2001:db8::10']"),
        ("s > world:80",),
        ("s > world2:80",),
    ),
    Case(
        "C4 except takes out of the allow",
        cnp(
            S + "egress:\n- toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.20/32]},"
            " {cidr: '2001:db8::/64', except: ['2001:db8::20/128']}]"
        ),
        ("s > world:80",),
        ("s > world2:80",),
    ),
    Case(
        "C4 another rule may still allow what except took out",
        cnp(
            S + "egress:\n- toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.20/32]},"
            " {cidr: '2001:db8::/64', except: ['2001:db8::20/128']}]\n"
            "- toCIDR: [203.0.113.20/32, '2001:db8::20/128']\n  toPorts: [{ports: [{port: '81', protocol: TCP}]}]"
        ),
        ("s > world:80", "s > world2:81"),
        ("s > world2:80",),
    ),
    Case(
        "C4 an except outside its prefix is refused",
        cnp(S + "egress:\n- toCIDRSet: [{cidr: 203.0.113.0/24, except: [198.51.100.0/24]}]"),
        ("s > foo:80",),
        refused="except",
    ),
    Case(
        "C5 a group of prefixes",
        both(
            "apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: outside}\n"
            "spec: {externalCIDRs: [203.0.113.10/32, '2001:db8::10/128']}\n",
            cnp(S + "egress:\n- toCIDRSet: [{cidrGroupRef: outside}]"),
        ),
        ("s > world:80",),
        ("s > world2:80", "s > foo:80"),
    ),
    Case(
        "C5 an unknown group matches nothing",
        cnp(S + "egress:\n- toCIDRSet: [{cidrGroupRef: nix}]"),
        (),
        ("s > world:80", "s > foo:80"),
    ),
    Case(
        "C6 an unknown entity is refused", cnp(S + "egress:\n- toEntities: [mars]"), ("s > foo:80",), refused="mars"
    ),
    Case(
        "entity world", cnp(S + "egress:\n- toEntities: [world]"), ("s > world:80",), ("s > foo:80", "s > xbar:80")
    ),
    Case(
        "entity cluster",
        cnp(S + "egress:\n- toEntities: [cluster]"),
        ("s > foo:80", "s > xbar:80"),
        ("s > world:80",),
    ),
    Case("entity all", cnp(S + "egress:\n- toEntities: [all]"), ("s > foo:80", "s > xbar:80", "s > world:80")),
    Case("entity none", cnp(S + "egress:\n- toEntities: [none]"), ("foo > s:80",), ("s > foo:80", "s > world:80")),
    Case(
        "entity world on the way in",
        cnp(S + "ingress:\n- fromEntities: [world]"),
        ("world > s:80",),
        ("foo > s:80",),
    ),
    Case(
        "a CIDR prefix is world for another rule",
        both(
            cnp(S + "egress:\n- toEntities: [world]\n  toPorts: [{ports: [{port: '80', protocol: TCP}]}]"),
            cnp(
                S + "egress:\n- toCIDR: [203.0.113.10/32, '2001:db8::10/128']\n"
                "  toPorts: [{ports: [{port: '81', protocol: TCP}]}]",
                name="q",
            ),
        ),
        ("s > world:80", "s > world:81", "s > world2:80"),
        ("s > world2:81", "s > foo:80"),
    ),
    Case(
        "C7 toServices means the pods behind the Service",
        cnp(S + "egress:\n- toServices: [{k8sService: {serviceName: svc, namespace: default}}]"),
        ("s > svc:8000", "s > foo:80", "s > foo:81"),
        ("s > bar:80", "s > xfoo:80"),
    ),
    Case(
        "C7 toServices with a port",
        cnp(
            S + "egress:\n- toServices: [{k8sService: {serviceName: svc, namespace: default}}]\n"
            "  toPorts: [{ports: [{port: '80', protocol: TCP}]}]"
        ),
        ("s > svc:8000", "s > foo:80"),
        ("s > foo:81",),
    ),
    Case(
        "a Service is judged on its pods, not on its address",
        cnp(
            S
            + "egress:\n- toEndpoints: [{matchLabels: {app: foo}}]\n  toPorts: [{ports: [{port: '80', protocol: TCP}]}]"
        ),
        ("s > svc:8000",),
        ("s > foo:81",),
    ),
    Case(
        "a Service whose pods are not allowed is not reached",
        cnp(S + "egress:\n- toEndpoints: [{matchLabels: {app: bar}}]"),
        ("s > bar:80",),
        ("s > svc:8000",),
    ),
]

PORTS = [
    Case(
        "P1 port 0 is every port of the protocol",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '0', protocol: TCP}]}]"),
        ("foo > s:80", "foo > s:445"),
        ("foo > s:80/udp", "bar > s:80"),
    ),
    Case(
        "P1 protocol ANY is TCP and UDP",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '80', protocol: ANY}]}]"),
        ("foo > s:80", "foo > s:80/udp"),
        ("foo > s:81", "foo > s:81/udp"),
    ),
    Case(
        "P1 no protocol is TCP and UDP",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '80'}]}]"),
        ("foo > s:80", "foo > s:80/udp"),
        ("foo > s:81",),
    ),
    Case(
        "P1 UDP alone",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '80', protocol: UDP}]}]"),
        ("foo > s:80/udp",),
        ("foo > s:80", "foo > s:81/udp"),
    ),
    Case(
        "P2 a range is inclusive",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '80', endPort: 444, protocol: TCP}]}]"),
        ("foo > s:80", "foo > s:443"),
        ("foo > s:445", "bar > s:443"),
    ),
    Case(
        "P2 an end before the start is the start alone",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '81', endPort: 80, protocol: TCP}]}]"),
        ("foo > s:81",),
        ("foo > s:80",),
    ),
    Case(
        "P3 a named port on the way in is the subject's",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: alt, protocol: TCP}]}]"),
        ("foo > s:81",),
        ("foo > s:80",),
    ),
    Case(
        "P3 a named port on the way out is the peer's",
        cnp(S + "egress:\n- toEndpoints: [{}]\n  toPorts: [{ports: [{port: web, protocol: TCP}]}]"),
        ("s > foo:80", "s > bar:81"),
        ("s > foo:81", "s > bar:80"),
    ),
    Case(
        "P3 a name that nobody has allows nothing",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: nosuch, protocol: TCP}]}]"),
        (),
        ("foo > s:80", "foo > s:81"),
    ),
    Case(
        "P4 a leading zero means octal",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '0120', protocol: TCP}]}]"),
        ("foo > s:80",),
        ("foo > s:81",),
    ),
    Case(
        "P5 icmps and toPorts together are refused",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '80'}]}]\n  icmps: [{fields: [{type: 8}]}]"),
        ("bar > s:80",),
        refused="icmps",
    ),
    Case("P6 an L4 rule does not allow ping", cnp(FOO_80), ("foo > s:80",), ("foo > s:ping",)),
    Case(
        "P7 a rule without ports allows all of them, and ping",
        cnp(FROM_FOO),
        ("foo > s:445", "foo > s:81/udp", "foo > s:ping"),
        ("bar > s:ping",),
    ),
    Case(
        "icmps allow echo by number, and nothing else",
        cnp(FROM_FOO + "\n  icmps: [{fields: [{type: 8, family: IPv4}, {type: 128, family: IPv6}]}]"),
        ("foo > s:ping",),
        ("foo > s:80", "bar > s:ping"),
    ),
    Case(
        "icmps allow echo by name",
        cnp(S + "ingress:\n- icmps: [{fields: [{type: EchoRequest}, {type: EchoRequest, family: IPv6}]}]"),
        ("foo > s:ping", "bar > s:ping"),
        ("foo > s:80",),
    ),
    Case(
        "several ports in one entry",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '80', protocol: TCP}, {port: '443', protocol: TCP}]}]"),
        ("foo > s:80", "foo > s:443"),
        ("foo > s:81",),
    ),
]

PRECEDENCE = [
    Case(
        "D1 allows are a union over policies of every kind",
        both(
            cnp(FOO_80),
            cnp(S + "ingress:\n- fromEndpoints: [{matchLabels: {app: bar}}]", name="q"),
            np(NP_S + "ingress: [{ports: [{port: 445}]}]"),
        ),
        ("foo > s:80", "bar > s:81", "xbar > s:445", "world > s:445"),
        ("foo > s:81", "xfoo > s:80"),
    ),
    Case(
        "D2 deny beats allow, whatever is more specific",
        both(cnp(FOO_80), cnp(S + "ingressDeny:\n- toPorts: [{ports: [{port: '80', protocol: TCP}]}]", name="d")),
        (),
        ("foo > s:80", "bar > s:80"),
    ),
    Case(
        "D2 a wide deny beats a narrow allow",
        both(cnp(FOO_80), cnp(S + "ingressDeny:\n- fromEndpoints: [{matchLabels: {app: foo}}]", name="d")),
        (),
        ("foo > s:80", "foo > s:81"),
    ),
    Case(
        "D2 a deny of another kind of object wins too",
        both(np(NP_S + "ingress: [{}]"), ccnp(S + "ingressDeny:\n- fromEndpoints: [{matchLabels: {app: foo}}]")),
        ("bar > s:80", "world > s:80"),
        ("foo > s:80",),
    ),
    Case(
        "D3 a deny of one port leaves the other allowed ports and ping",
        cnp(FROM_FOO + "\ningressDeny:\n- toPorts: [{ports: [{port: '80', protocol: TCP}]}]"),
        ("foo > s:81", "foo > s:ping"),
        ("foo > s:80", "bar > s:81"),
    ),
    Case(
        "a deny on the way out",
        cnp(
            S + "egress:\n- toEntities: [all]\negressDeny:\n- toCIDR: [203.0.113.20/32, '2001:db8::20/128']\n"
            "- toEndpoints: [{matchLabels: {app: bar}}]"
        ),
        ("s > foo:80", "s > world:80", "s > xbar:80"),
        ("s > world2:80", "s > bar:80"),
    ),
    Case(
        "a deny of a range inside an allowed range",
        cnp(
            FROM_FOO + "\n  toPorts: [{ports: [{port: '80', endPort: 500, protocol: TCP}]}]\n"
            "ingressDeny:\n- toPorts: [{ports: [{port: '81', endPort: 443, protocol: TCP}]}]"
        ),
        ("foo > s:80", "foo > s:445"),
        ("foo > s:81", "foo > s:443"),
    ),
    Case(
        "specs is a list of rules",
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: default}\nspecs:\n"
        "- endpointSelector: {matchLabels: {app: s}}\n  ingress: [{fromEndpoints: [{matchLabels: {app: foo}}]}]\n"
        "- endpointSelector: {matchLabels: {app: foo}}\n  egress: [{toEndpoints: [{matchLabels: {app: s}}]}]\n",
        ("foo > s:80",),
        ("bar > s:80", "foo > bar:80"),
    ),
]

L7 = [
    Case(
        "an L7 rule sends its port to the proxy",
        cnp(FOO_80_GET),
        (),
        ("foo > s:81", "bar > s:80"),
        needs_proxy=("foo > s:80",),
    ),
    Case(
        "L8 a plain allow of the same port does not take it from the proxy",
        both(cnp(FOO_80_GET), cnp(FOO_80, name="q")),
        (),
        ("bar > s:80",),
        needs_proxy=("foo > s:80",),
        lifted=("foo > s:80",),
    ),
    Case(
        "L9 an L7 rule for everybody holds for a peer allowed at L3 too",
        both(
            cnp(S + "ingress:\n- toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: /x}]}}]"),
            cnp(FROM_FOO, name="q"),
        ),
        ("foo > s:81",),
        ("bar > s:81",),
        needs_proxy=("foo > s:80", "bar > s:80"),
        lifted=("foo > s:80",),
    ),
    Case(
        "L13 a deny stands before the proxy",
        cnp(FOO_80_GET + "\ningressDeny:\n- fromEndpoints: [{matchLabels: {app: foo}}]"),
        (),
        ("foo > s:80", "bar > s:80"),
    ),
    Case(
        "L1 an L7 rule needs a concrete port",
        cnp(FROM_FOO + "\n  toPorts: [{ports: [{port: '0', protocol: TCP}], rules: {http: [{method: GET}]}}]"),
        ("bar > s:80",),
        refused="port",
    ),
    Case(
        "toFQDNs is refused as not enforced yet",
        cnp(S + "egress:\n- toFQDNs: [{matchName: example.com}]"),
        ("s > foo:80",),
        refused="not enforced yet",
    ),
    Case(
        "authentication is refused as not enforced yet",
        cnp(FROM_FOO + "\n  authentication: {mode: required}"),
        ("bar > s:80",),
        refused="not enforced yet",
    ),
]

KUBERNETES = [
    Case("NetworkPolicy without rules isolates ingress", np(NP_S), ("s > foo:80",), ("foo > s:80", "world > s:80")),
    Case(
        "NetworkPolicy: ingress [{}] allows all",
        np(NP_S + "ingress: [{}]"),
        ("foo > s:80", "world > s:80", "xbar > s:81/udp"),
    ),
    Case(
        "NetworkPolicy: from a podSelector, of its own namespace",
        np(NP_S + "ingress: [{from: [{podSelector: {matchLabels: {app: foo}}}]}]"),
        ("foo > s:80",),
        ("bar > s:80", "xfoo > s:80", "world > s:80"),
    ),
    Case(
        "NetworkPolicy: an empty podSelector is the whole namespace",
        np(NP_S + "ingress: [{from: [{podSelector: {}}]}]"),
        ("foo > s:80", "bar > s:80"),
        ("xfoo > s:80", "world > s:80"),
    ),
    Case(
        "NetworkPolicy: a namespaceSelector",
        np(NP_S + "ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]"),
        ("xfoo > s:80", "xbar > s:80"),
        ("foo > s:80",),
    ),
    Case(
        "NetworkPolicy: namespace AND pod in one entry",
        np(
            NP_S + "ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}},"
            " podSelector: {matchLabels: {app: foo}}}]}]"
        ),
        ("xfoo > s:80",),
        ("xbar > s:80", "foo > s:80"),
    ),
    Case(
        "NetworkPolicy: namespace OR pod in two entries",
        np(
            NP_S + "ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}},"
            " {podSelector: {matchLabels: {app: foo}}}]}]"
        ),
        ("xfoo > s:80", "xbar > s:80", "foo > s:80"),
        ("bar > s:80",),
    ),
    Case(
        "NetworkPolicy: an empty from is anybody, on the ports",
        np(NP_S + "ingress: [{from: [], ports: [{port: 80}]}]"),
        ("foo > s:80", "world > s:80"),
        ("foo > s:81", "foo > s:80/udp"),
    ),
    Case(
        "NetworkPolicy: a named port",
        np(NP_S + "ingress: [{ports: [{port: alt}]}]"),
        ("foo > s:81",),
        ("foo > s:80",),
    ),
    Case(
        "NetworkPolicy: endPort is inclusive",
        np(NP_S + "ingress: [{ports: [{port: 80, endPort: 443, protocol: TCP}]}]"),
        ("foo > s:81", "foo > s:443"),
        ("foo > s:445",),
    ),
    Case(
        "NetworkPolicy: endPort before port is refused",
        np(NP_S + "ingress: [{ports: [{port: 80, endPort: 79}]}]"),
        ("foo > s:445",),
        refused="endPort",
    ),
    Case(
        "NetworkPolicy: UDP",
        np(NP_S + "ingress: [{ports: [{port: 80, protocol: UDP}]}]"),
        ("foo > s:80/udp",),
        ("foo > s:80",),
    ),
    Case(
        "NetworkPolicy: egress alone isolates egress when policyTypes says so",
        np(NP_S + "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {app: foo}}}]}]"),
        ("s > foo:80", "bar > s:80"),
        ("s > bar:80", "s > world:80"),
    ),
    Case(
        "NetworkPolicy: an egress section isolates both by default",
        np(NP_S + "egress: [{to: [{podSelector: {matchLabels: {app: foo}}}]}]"),
        ("s > foo:80",),
        ("s > bar:80", "foo > s:80"),
    ),
    Case(
        "NetworkPolicy: policyTypes Egress without rules",
        np(NP_S + "policyTypes: [Egress]"),
        ("foo > s:80",),
        ("s > foo:80",),
    ),
    Case(
        "NetworkPolicy: ipBlock with except, outside",
        np(
            NP_S + "policyTypes: [Egress]\negress: [{to: ["
            "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.20/32]}},"
            " {ipBlock: {cidr: '2001:db8::/64', except: ['2001:db8::20/128']}}]}]"
        ),
        ("s > world:80",),
        ("s > world2:80", "s > foo:80"),
    ),
    Case(
        "NetworkPolicy: ipBlock matches pods too",
        np(NP_S + "ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16}}, {ipBlock: {cidr: 'fd00:10:244::/48'}}]}]"),
        ("foo > s:80", "xbar > s:80"),
        ("world > s:80",),
    ),
    Case(
        "NetworkPolicy: kubelet's way in stays open",
        np(NP_S),
        ("host > s:80",),
        ("foo > s:80",),
    ),
]

OWN_KINDS = [
    Case("MeshNetworkPolicy has the same schema", mesh(FROM_FOO), ("foo > s:80",), ("bar > s:80", "xfoo > s:80")),
    Case(
        "ClusterMeshNetworkPolicy has the same schema",
        mesh(S + "ingress:\n- fromEndpoints: [{matchLabels: {app: foo}}]", "ClusterMeshNetworkPolicy"),
        ("foo > s:80", "xfoo > s:80"),
        ("bar > s:80",),
    ),
]

CASES = [
    *ENFORCEMENT, *SELECTORS, *CIDR_AND_ENTITIES, *PORTS, *PRECEDENCE, *L7, *KUBERNETES, *OWN_KINDS,
]  # fmt: skip
