"""Who has which address: the rows of the ipcache, from a cluster as the operator makes it."""

from __future__ import annotations

from ipaddress import ip_network

from weft.daemon.datapath.addresses import Node, wanted
from weft.daemon.datapath.rows import Prefix, host_prefix, prefix_of
from weft.policies import identity
from weft.policies.cluster import Cluster, Numbers
from weft.policies.model import ObjectRef
from weft.policies.objects import EndpointSlice, Pod, Service, SliceEndpoint
from weft.policies.objects import Node as NodeObject


def cluster_with(*api_servers: str) -> Cluster:
    cluster = Cluster(Numbers())
    cluster.put(NodeObject("n1", ("172.30.0.1",)))
    cluster.put(NodeObject("n2", ("172.30.0.2", "fd00:172::2")))
    cluster.put(Pod("default", "a", node="n1", ips=("10.1.1.1",)))
    cluster.put(Service("default", "kubernetes", cluster_ips=("10.96.0.1",)))
    endpoints = tuple(SliceEndpoint((ip,)) for ip in api_servers)
    cluster.put(EndpointSlice("default", "kubernetes", "kubernetes", endpoints=endpoints))
    cluster.delta()
    return cluster


def rows(cluster: Cluster, node: str = "n1") -> dict[Prefix, int]:
    return wanted(cluster.part, Node(node, dns=("10.96.0.10",)), {})


def test_own_addresses_are_the_host_others_are_remote_nodes_and_the_dns_has_its_own() -> None:
    found = rows(cluster_with())
    assert found[host_prefix("172.30.0.1")] == identity.HOST
    assert found[host_prefix("172.30.0.2")] == found[host_prefix("fd00:172::2")] == identity.REMOTE_NODE
    assert found[host_prefix("10.96.0.10")] == identity.DNS
    assert found[host_prefix("10.1.1.1")] >= identity.CLUSTER_MIN


def test_a_node_that_serves_the_api_is_told_from_others_by_that_address() -> None:
    cluster = cluster_with("172.30.0.2")
    found = rows(cluster)
    assert found[host_prefix("172.30.0.2")] == identity.KUBE_APISERVER
    assert found[host_prefix("fd00:172::2")] == identity.REMOTE_NODE
    assert rows(cluster, "n2")[host_prefix("172.30.0.2")] == identity.HOST, "to its own workloads it is the host"


def test_it_is_a_remote_node_again_once_it_serves_no_more() -> None:
    cluster = cluster_with("172.30.0.2")
    cluster.remove(ObjectRef("EndpointSlice", "default", "kubernetes"))
    assert cluster.delta()
    assert rows(cluster)[host_prefix("172.30.0.2")] == identity.REMOTE_NODE


def test_a_pod_that_serves_the_api_keeps_the_identity_of_its_labels() -> None:
    assert rows(cluster_with("10.1.1.1")) == rows(cluster_with())


def test_an_api_server_outside_is_known_by_its_prefix() -> None:
    found = rows(cluster_with("198.51.100.7"))
    assert host_prefix("198.51.100.7") not in found
    prefix = ip_network("198.51.100.7/32")
    with_rule = wanted(cluster_with("198.51.100.7").part, Node("n1"), {prefix: identity.LOCAL_MIN})
    assert with_rule[prefix_of(prefix)] == identity.LOCAL_MIN
