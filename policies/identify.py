"""From a pod to the labels of its identity.

Labels that differ from pod to pod of one workload would make an identity per pod, so they are left out, unless a
selector in force names one: then it counts, for a policy must never silently miss what it means.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from weft.policies.labels import (
    CLUSTER_KEY,
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    Label,
)
from weft.policies.model import Network
from weft.policies.objects import Namespace, Pod

EXCLUDED: Final = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/controller-uid",
        "controller-uid",
    }
)
#: Every namespace has this label, whether or not it was declared.
NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"
#: A pod with it plays a host of the outside world: no workload, no identity.
EXTERNAL_ANNOTATION: Final = "weft.dev/external-address"


def is_workload(pod: Pod) -> bool:
    """Has an identity of its own. Pods on the host network are the node; others are somebody outside."""
    return not pod.host_network and EXTERNAL_ANNOTATION not in pod.annotations


def pod_labels(pod: Pod, namespace: Namespace | None, mentioned: Container[str], cluster: str) -> list[Label]:
    """`mentioned`: the label keys that selectors in force name. Prefix labels come on top, per address."""
    labels = [
        Label("k8s", key, value) for key, value in pod.labels.items() if key not in EXCLUDED or key in mentioned
    ]
    labels += [
        Label("k8s", NAMESPACE_LABEL_PREFIX + key, value)
        for key, value in namespace_labels(pod.namespace, namespace).items()
    ]
    labels.append(Label("k8s", NAMESPACE_KEY, pod.namespace))
    labels.append(Label("k8s", CLUSTER_KEY, cluster))
    labels.append(Label("k8s", SERVICE_ACCOUNT_KEY, pod.service_account))
    return labels


def namespace_labels(name: str, namespace: Namespace | None) -> Mapping[str, str]:
    return {**(namespace.labels if namespace else {}), NAMESPACE_NAME_LABEL: name}


def prefix_label(network: Network) -> Label:
    """`cidr:10.0.0.0/8`, `cidr:fd00--/8`: what a pod address inside an ipBlock's prefix carries."""
    return Label("cidr", str(network).replace(":", "-"), "")


class Prefixes:
    """The prefixes that make a difference between pods, found by address: one lookup per distinct length."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self.networks = frozenset(networks)
        self._by_bits: dict[tuple[int, int], dict[int, Label]] = {}  # (version, host bits) -> prefix -> label
        for network in self.networks:
            shift = network.max_prefixlen - network.prefixlen
            table = self._by_bits.setdefault((network.version, shift), {})
            table[int(network.network_address) >> shift] = prefix_label(network)

    def labels(self, ip: str) -> Iterator[Label]:
        if self._by_bits:
            address: IPv4Address | IPv6Address = ip_address(ip)
            number = int(address)
            for (version, shift), table in self._by_bits.items():
                if version == address.version and number >> shift in table:
                    yield table[number >> shift]
