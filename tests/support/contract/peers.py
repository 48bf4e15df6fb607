"""Entities, and Services on both ends: C6, C7."""

from __future__ import annotations

from contract.cluster import API_ON_EVERY_NODE, API_ON_NODE, API_OUTSIDE
from contract.rows import Row, egress, ingress, ports
from truth_cases import S, both, cnp


def entity(name: str, allow: str, deny: str, objects: str = "") -> Row:
    """Both ways: who may come in, and whom it may reach."""
    comes = tuple(f"{who} > s:80" for who in allow.split()) + tuple(f"s > {who}:80" for who in allow.split())
    stays = tuple(f"{who} > s:80" for who in deny.split()) + tuple(f"s > {who}:80" for who in deny.split())
    policy = cnp(f"{S}ingress: [{{fromEntities: [{name}]}}]\negress: [{{toEntities: [{name}]}}]")
    note = f" {objects.count('172.30')} of the nodes are API servers" if objects else ""
    return Row(f"entity {name}{note}", both(objects, policy) if objects else policy, comes, stays)


ENTITIES = [
    entity("all", "foo xfoo lost world world6 n2 api", ""),
    entity("world", "world world6 api", "foo xfoo n2 bare"),
    entity("world-ipv4", "world", "foo n2 world6 bare"),
    entity("world-ipv6", "world6", "foo n2 world bare"),
    entity("cluster", "foo xfoo lost bare n2", "world world6 api"),
    entity("remote-node", "n2 default/proxy", "foo world"),
    entity("none", "", "foo xfoo world n2"),
    entity("init", "", "foo world n2"),
    entity("health", "", "foo world n2"),
    entity("unmanaged", "", "foo world n2"),
    entity("ingress", "", "foo world n2"),
    entity("kube-apiserver", "", "foo world n2 api"),
    entity("kube-apiserver", "api", "foo world n2", API_OUTSIDE),
    entity("kube-apiserver", "n2", "foo world api", API_ON_NODE),
    entity("kube-apiserver", "n1 n2", "foo world api", API_ON_EVERY_NODE),
    entity("world", "world api", "foo n2", API_OUTSIDE),
    entity("cluster", "foo n2 api", "world", API_OUTSIDE),
    entity("remote-node", "n2", "foo world api", API_ON_NODE),
    entity("all", "n2 foo", "", API_ON_NODE),
    Row(
        "entity host",
        cnp(f"{S}egress: [{{toEntities: [host]}}]"),
        ("s > n1:80",),
        ("s > n2:80", "s > foo:80", "s > world:80"),
    ),
    Row(
        "a CIDR means the API server outside",
        both(API_OUTSIDE, egress("toCIDR: [198.51.100.0/24]")),
        ("s > api:6443", "s > 198.51.100.8:80"),
        ("s > world:80",),
    ),
    Row(
        "a deny of its CIDR too",
        both(API_OUTSIDE, egress("toEntities: [all]", "egressDeny: [{toCIDR: [198.51.100.0/24]}]")),
        ("s > world:80",),
        ("s > api:6443",),
    ),
    Row(
        "the Service kubernetes",
        both(API_OUTSIDE, egress("{toEntities: [kube-apiserver], " + ports("port: '6443'") + "}")),
        ("s > default/kubernetes:443", "s > 10.96.0.1:443"),
        ("s > default/web:80",),
    ),
    Row(
        "several entities",
        ingress("fromEntities: [remote-node, world]"),
        ("n2 > s:80", "world > s:80"),
        ("foo > s:80",),
    ),
    Row(
        "deny by entity",
        ingress("fromEntities: [all]", "ingressDeny: [{fromEntities: [world, remote-node]}]"),
        ("foo > s:80",),
        ("world > s:80", "n2 > s:80"),
    ),
]

#: One more backend of the Service web.
PART_POD = """
apiVersion: v1
kind: Pod
metadata: {name: part, labels: {zone: a, app: part}}
spec: {containers: [{name: c, image: x, ports: [{name: web, containerPort: 80}]}]}
"""

SERVICES = [
    Row(
        "C7 a Service's pods",
        egress("toServices: [{k8sService: {serviceName: web, namespace: default}}]"),
        ("s > foo:80", "s > foo:1/udp", "s > default/web:80"),
        ("s > bar:80", "s > xfoo:80"),
    ),
    Row(
        "C7 with ports",
        egress(
            "{toServices: [{k8sService: {serviceName: web, namespace: default}}], "
            + ports("port: '80', protocol: TCP")
            + "}"
        ),
        ("s > default/web:80",),
        ("s > foo:81", "s > foo:80/udp"),
    ),
    Row(
        "C7 without a namespace: every one",
        egress("toServices: [{k8sService: {serviceName: db}}]"),
        ("s > db:5432",),
        ("s > foo:80",),
    ),
    Row(
        "C7 by the Service's labels",
        egress("toServices: [{k8sServiceSelector: {selector: {matchLabels: {kind: abroad}}, namespace: default}}]"),
        ("s > world:8443", "s > default/abroad:80"),
        ("s > foo:80", "s > world2:80"),
    ),
    Row(
        "C7 without a selector: its slices",
        egress("toServices: [{k8sService: {serviceName: abroad, namespace: default}}]"),
        ("s > world:1",),
        ("s > world2:1", "s > foo:80"),
    ),
    Row(
        "C7 no such Service",
        egress("toServices: [{k8sService: {serviceName: none, namespace: default}}]"),
        (),
        ("s > foo:80", "s > world:80"),
    ),
    Row(
        "C7 another namespace's",
        egress("toServices: [{k8sService: {serviceName: web, namespace: other}}]"),
        (),
        ("s > foo:80",),
    ),
    Row(
        "C7 denied",
        egress(
            "toEntities: [all]",
            "egressDeny: [{toServices: [{k8sService: {serviceName: web, namespace: default}}]}]",
        ),
        ("s > bar:80",),
        ("s > foo:80", "s > default/web:80"),
    ),
    Row(
        "C7 not for ingress", ingress("fromServices: [{k8sService: {serviceName: web}}]"), refused=("fromServices",)
    ),
    Row(
        "a Service's port is its target's",
        ingress("{" + ports("port: '80', protocol: TCP") + "}"),
        ("foo > front:8000", "foo > svc/default/front:8000", "foo > 10.96.0.50:8000"),
        ("foo > front:81", "foo > front:80", "foo > s:8000"),
    ),
    Row(
        "a rule about the service port says nothing",
        ingress("{" + ports("port: '8000', protocol: TCP") + "}"),
        (),
        ("foo > front:8000",),
    ),
    Row("a Service without ready pods", "", (), ("foo > default/nobody:80",)),
    Row("a Service without that port", "", (), ("foo > front:9000", "foo > front:8000/udp")),
    Row(
        "a headless Service's port is its target's too",
        both(
            "apiVersion: v1\nkind: Service\nmetadata: {name: h}\n"
            "spec: {clusterIP: None, selector: {app: dep}, ports: [{port: 80, targetPort: web}]}\n",
            cnp("endpointSelector: {matchLabels: {app: dep}}\ningress: [{" + ports("port: '7000'") + "}]"),
        ),
        ("s > default/h:80", "s > default/h:7000"),
        ("s > default/h:81",),
    ),
    Row(
        "a headless Service: any other port, its pods' own",
        cnp("endpointSelector: {matchLabels: {app: foo}}\ningress: [{" + ports("port: '80'") + "}]"),
        ("s > direct:80",),
        ("s > direct:81",),
    ),
    Row(
        "a headless Service without ports",
        cnp("endpointSelector: {matchLabels: {app: foo}}\ningress: [{" + ports("port: '80'") + "}]"),
        ("s > default/portless:80",),
        ("s > default/portless:81",),
    ),
    Row(
        "one backend denied denies the Service",
        both(
            PART_POD,
            cnp("endpointSelector: {matchLabels: {app: part}}\ningress: [{}]"),
        ),
        ("s > foo:80",),
        ("s > default/web:80",),
    ),
    Row(
        "a backend that is not ready does not count",
        both(
            PART_POD + "status: {podIP: 10.1.1.9, conditions: [{type: Ready, status: 'False'}]}\n",
            cnp("endpointSelector: {matchLabels: {app: part}}\ningress: [{}]"),
        ),
        ("s > default/web:80",),
        ("s > default/part:80",),
    ),
    Row(
        "a Deployment's Service",
        cnp("endpointSelector: {matchLabels: {app: dep}}\ningress: [{" + ports("port: '7000'") + "}]"),
        ("foo > svc/default/depot:80", "foo > default/depot:80", "foo > dep:7000"),
        ("foo > svc/default/depot:7000", "foo > dep:80"),
    ),
    Row("a Service abroad", egress("toCIDR: [203.0.113.10/32]"), ("s > default/abroad:80",), ("s > world2:80",)),
]

ROWS = [*ENTITIES, *SERVICES]
