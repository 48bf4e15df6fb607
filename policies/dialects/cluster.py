"""The cluster's own objects (Pods, Services, ...) reduced to `weft.policies.objects`.

Read leniently, unlike policies: these schemas are large and grow, so fields that Weft does not use are not looked
at, and null is the same as left out. What is used is checked as strictly as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from weft.policies.dialects.cidrs import address, prefix
from weft.policies.dialects.fields import Field, Findings
from weft.policies.dialects.kubernetes import PROTOCOLS, port_name
from weft.policies.dialects.metadata import annotations_of, check_name, checked_labels, labels_of
from weft.policies.model import ObjectRef, Protocol
from weft.policies.objects import (
    ContainerPort,
    EndpointSlice,
    Namespace,
    Node,
    Owner,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)

TEMPLATE_HASH = "pod-template-hash"
SERVICE_NAME = "kubernetes.io/service-name"

_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
#: What controllers append: a hash in Kubernetes' alphabet without vowels, or Weft's own eight hex digits.
_HASH_SUFFIX = re.compile(r"(.+)-(?:[bcdfghjklmnpqrstvwxz2456789]{5,10}|[0-9a-f]{8})\Z")
_CRON_SUFFIX = re.compile(r"(.+)-[0-9]{8,10}\Z")


def parse_namespace(root: Field, ref: ObjectRef) -> Namespace:
    return Namespace(ref.name, labels_of(root), annotations_of(root))


# Pods


def parse_pod(root: Field, ref: ObjectRef) -> Pod:
    spec = root.need("spec")
    status = root.lax("status")
    labels = labels_of(root)
    account = spec.lax("serviceAccountName") or spec.lax("serviceAccount")
    node = spec.lax("nodeName")
    return Pod(
        namespace=ref.namespace,
        name=ref.name,
        labels=labels,
        annotations=annotations_of(root),
        service_account=(account.string() if account is not None else "") or "default",
        node=node.string() if node is not None else "",
        ips=_pod_ips(status) if status is not None else (),
        ports=_container_ports(spec),
        host_network=_flag(spec, "hostNetwork", default=False),
        ready=_ready(status) if status is not None else True,
        owner=_owner(root, labels),
    )


def _pod_ips(status: Field) -> tuple[str, ...]:
    """A pod that has ended keeps its addresses in its status, but they may be another's by now."""
    phase = status.lax("phase")
    if phase is not None and phase.string() in ("Succeeded", "Failed"):
        return ()
    several, one = status.lax("podIPs"), status.lax("podIP")
    found = [address(item.need("ip")) for item in several.items()] if several is not None else []
    if not found and one is not None and one.string():
        found = [address(one)]
    return tuple(dict.fromkeys(found))


def _container_ports(spec: Field) -> tuple[ContainerPort, ...]:
    """Of containers, and of the init containers that keep running (sidecars)."""
    found: dict[ContainerPort, None] = {}
    for group in ("containers", "initContainers"):
        containers = spec.lax(group)
        for container in containers.items() if containers is not None else ():
            restart = container.lax("restartPolicy")
            if group == "initContainers" and (restart is None or restart.string() != "Always"):
                continue
            ports = container.lax("ports")
            for item in ports.items() if ports is not None else ():
                found[_container_port(item)] = None
    return tuple(found)


def _container_port(item: Field) -> ContainerPort:
    name = item.lax("name")
    return ContainerPort(
        name=port_name(name) if name is not None and name.string() else "",
        port=item.need("containerPort").integer(1, 65535),
        protocol=_protocol(item),
    )


def _ready(status: Field) -> bool:
    """As its Ready condition says; without one (a manifest written by hand) it is."""
    conditions = status.lax("conditions")
    for item in conditions.items() if conditions is not None else ():
        if item.need("type").string() == "Ready":
            return item.need("status").string() == "True"
    return True


def _owner(root: Field, labels: Mapping[str, str]) -> Owner | None:
    """The workload: what the controller's controller is called, as far as names tell it."""
    references = root.need("metadata").lax("ownerReferences")
    items = references.items() if references is not None else []
    managing = next((item for item in items if _flag(item, "controller", default=False)), None)
    if managing is None:
        return None
    kind, name = managing.need("kind").text(), managing.need("name").text()
    if kind == "ReplicaSet":
        suffix = "-" + labels.get(TEMPLATE_HASH, "")
        if len(suffix) > 1 and name.endswith(suffix) and len(name) > len(suffix):
            return Owner("Deployment", name.removesuffix(suffix))
        match = _HASH_SUFFIX.match(name)
        return Owner("Deployment", match[1]) if match and len(suffix) == 1 else Owner(kind, name)
    if kind == "Job" and (match := _CRON_SUFFIX.match(name)):
        return Owner("CronJob", match[1])
    return Owner(kind, name)


# Services and what stands behind them


def parse_service(root: Field, ref: ObjectRef) -> Service:
    spec = root.need("spec")
    selector, kind, ports = spec.lax("selector"), spec.lax("type"), spec.lax("ports")
    several, one = spec.lax("clusterIPs"), spec.lax("clusterIP")
    ips = several.items() if several is not None else []
    if not ips and one is not None and one.string():
        ips = [one]
    headless = any(ip.value == "None" for ip in ips)
    external, distribution = spec.lax("externalIPs"), spec.lax("trafficDistribution")
    return Service(
        namespace=ref.namespace,
        name=ref.name,
        labels=labels_of(root),
        annotations=annotations_of(root),
        selector=checked_labels(selector) if selector is not None else {},
        cluster_ips=() if headless else tuple(dict.fromkeys(address(ip) for ip in ips)),
        headless=headless,
        type=kind.one_of(_SERVICE_TYPES) if kind is not None else "ClusterIP",
        ports=tuple(_service_port(item) for item in ports.items()) if ports is not None else (),
        external_ips=tuple(address(item) for item in external.items()) if external is not None else (),
        traffic_distribution=distribution.string() if distribution is not None else "",
    )


def _service_port(item: Field) -> ServicePort:
    name, target, node_port = item.lax("name"), item.lax("targetPort"), item.lax("nodePort")
    application = item.lax("appProtocol")
    port = item.need("port").integer(1, 65535)
    return ServicePort(
        name=check_name(name, dns_label=True) if name is not None and name.string() else "",
        protocol=_protocol(item),
        port=port,
        target_port=_target_port(target) if target is not None else port,
        node_port=node_port.integer(0, 65535) if node_port is not None else 0,
        app_protocol=application.string() if application is not None else "",
    )


def _target_port(field: Field) -> int | str:
    return port_name(field) if isinstance(field.value, str) else field.integer(1, 65535)


def parse_endpoint_slice(root: Field, ref: ObjectRef) -> EndpointSlice:
    kind = root.need("addressType").one_of(("IPv4", "IPv6", "FQDN"))
    endpoints, ports = root.lax("endpoints"), root.lax("ports")
    items = ports.items() if ports is not None else []
    return EndpointSlice(
        namespace=ref.namespace,
        name=ref.name,
        service=labels_of(root).get(SERVICE_NAME, ""),
        address_type=kind,
        endpoints=tuple(_endpoint(item, kind, ref) for item in endpoints.items()) if endpoints is not None else (),
        # a port without a number means "every port", which no service port can name
        ports=tuple(_slice_port(item) for item in items if item.lax("port") is not None),
    )


def _endpoint(item: Field, kind: str, ref: ObjectRef) -> SliceEndpoint:
    conditions, node, hostname = item.lax("conditions"), item.lax("nodeName"), item.lax("hostname")
    target = item.lax("targetRef")
    addresses = item.need("addresses").items()
    return SliceEndpoint(
        addresses=tuple(a.string() if kind == "FQDN" else address(a) for a in addresses),
        ready=_flag(conditions, "ready", default=True) if conditions is not None else True,
        node=node.string() if node is not None else "",
        target_pod=_target_pod(target, ref) if target is not None else None,
        hostname=hostname.string() if hostname is not None else "",
    )


def _target_pod(target: Field, ref: ObjectRef) -> tuple[str, str] | None:
    kind, namespace, name = target.lax("kind"), target.lax("namespace"), target.lax("name")
    if kind is None or kind.string() != "Pod" or name is None:
        return None
    return (namespace.string() if namespace is not None else "") or ref.namespace, name.string()


def _slice_port(item: Field) -> SlicePort:
    name = item.lax("name")
    return SlicePort(
        name=name.string() if name is not None else "",
        protocol=_protocol(item),
        port=item.need("port").integer(1, 65535),
    )


# Nodes


def parse_node(root: Field, ref: ObjectRef) -> Node:
    status, spec = root.lax("status"), root.lax("spec")
    addresses = status.lax("addresses") if status is not None else None
    return Node(
        name=ref.name,
        addresses=_node_addresses(addresses) if addresses is not None else (),
        labels=labels_of(root),
        pod_cidrs=_pod_cidrs(spec) if spec is not None else (),
    )


def _node_addresses(field: Field) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in field.items():
        if item.need("type").string() in ("InternalIP", "ExternalIP"):
            found[address(item.need("address"))] = None
    return tuple(found)


def _pod_cidrs(spec: Field) -> tuple[str, ...]:
    several, one = spec.lax("podCIDRs"), spec.lax("podCIDR")
    fields = several.items() if several is not None else []
    if not fields and one is not None and one.string():
        fields = [one]
    return tuple(dict.fromkeys(str(prefix(item, Findings())) for item in fields))


def _protocol(item: Field) -> Protocol:
    field = item.lax("protocol")
    return PROTOCOLS[field.one_of(PROTOCOLS)] if field is not None else Protocol.TCP


def _flag(parent: Field, name: str, *, default: bool) -> bool:
    field = parent.lax(name)
    return field.boolean() if field is not None else default
