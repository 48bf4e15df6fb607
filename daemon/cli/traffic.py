"""What `weft stat` and `weft edges` are made of: the growth of the metrics over a window, summed over the nodes of
this machine, and the cluster that the labels speak of.

In: the daemons' answers to `metrics-window` and `conntrack`, one daemon's snapshot. Out: figures by whatever key a
table has. Rules: 1. A request counts as Linkerd's does: 5xx, no response, or a fault of the server's in gRPC is a
failure. 2. A quantile is Prometheus' `histogram_quantile`: linear within its bucket. 3. A rate is over the time
that a node's window really covers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, TypeVar

from weft.daemon.cli import client
from weft.daemon.cli.failure import Failure
from weft.policies.snapshot import AddressItem, ClusterPart

REQUESTS: Final = "istio_requests_total"
DURATION: Final = "istio_request_duration_milliseconds"
RECEIVED: Final = "istio_tcp_received_bytes_total"
SENT: Final = "istio_tcp_sent_bytes_total"
#: gRPC: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS (linkerd2-proxy's classification).
FAULTS: Final = frozenset(("2", "4", "13", "14", "15"))
#: A connection of which one of these was seen is on its way out.
ENDING: Final = frozenset(("fin_in", "fin_out", "rst"))

Labels = Mapping[str, str]
KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(slots=True)
class Figures:
    """Of one row. Rates are per second, `buckets` of durations in milliseconds."""

    success: float = 0.0
    failure: float = 0.0
    received: float = 0.0
    sent: float = 0.0
    bounds: tuple[float, ...] = ()
    buckets: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.success + self.failure

    @property
    def success_rate(self) -> float | None:
        """None: there were no requests."""
        return self.success / self.rate if self.rate else None

    def quantile(self, share: float) -> float | None:
        return quantile(share, self.bounds, self.buckets)

    def grow(
        self, family: str, labels: Labels, series: Mapping[str, Any], bounds: Sequence[float], per: float
    ) -> None:
        """`per`: seconds of the window."""
        if family == REQUESTS:
            if succeeded(labels):
                self.success += series["value"] / per
            else:
                self.failure += series["value"] / per
        elif family == DURATION:
            self.bounds = tuple(bounds)
            have = self.buckets or [0] * len(series["buckets"])
            self.buckets = [old + new for old, new in zip(have, series["buckets"], strict=True)]
        elif family == RECEIVED:
            self.received += series["value"] / per
        elif family == SENT:
            self.sent += series["value"] / per

    def join(self, other: Figures) -> None:
        self.success, self.failure = self.success + other.success, self.failure + other.failure
        self.received, self.sent = self.received + other.received, self.sent + other.sent
        if other.buckets:
            have = self.buckets or [0] * len(other.buckets)
            self.bounds = other.bounds
            self.buckets = [one + more for one, more in zip(have, other.buckets, strict=True)]


def succeeded(labels: Labels) -> bool:
    if labels.get("request_protocol") == "grpc" and labels.get("grpc_response_status"):
        return labels["grpc_response_status"] not in FAULTS
    code = labels.get("response_code", "0")
    return code != "0" and not code.startswith("5")


def quantile(share: float, bounds: Sequence[float], buckets: Sequence[int]) -> float | None:
    """Above all bounds: the last bound. None: there is nothing."""
    total = sum(buckets)
    if not total:
        return None
    rank = share * total
    below = [0, *accumulate(buckets)]
    at = next(i for i in range(len(buckets)) if below[i + 1] >= rank and buckets[i])
    if at >= len(bounds):
        return float(bounds[-1])
    lower = bounds[at - 1] if at else 0.0
    return float(lower + (bounds[at] - lower) * (rank - below[at]) / buckets[at])


# what the daemons say


class Windows:
    """The growth of each node's metrics. `seconds`: the least that one of them covers."""

    def __init__(self, answers: Iterable[Mapping[str, Any]]) -> None:
        self._answers = list(answers)
        self.seconds = min((answer["seconds"] for answer in self._answers), default=0.0)

    def by(self, key: Callable[[Labels], KeyT | None]) -> dict[KeyT, Figures]:
        """`key`: the row that a series belongs to; None: none."""
        found: dict[KeyT, Figures] = {}
        for answer in self._answers:
            for name, family in answer["families"].items():
                for series in family["series"]:
                    row = key(series["labels"])
                    if row is not None:
                        figures = found.setdefault(row, Figures())
                        figures.grow(name, series["labels"], series, family["bounds"], max(answer["seconds"], 1.0))
        return found


def windows(options: argparse.Namespace, seconds: int) -> Windows:
    return Windows(client.query_all(options.run_dir, options.node, "metrics-window", str(seconds)).values())


@dataclass(frozen=True, slots=True)
class Connection:
    """Open, to a workload on one of these nodes, by addresses."""

    source: str
    destination: str


def connections(options: argparse.Namespace) -> tuple[list[Connection], bool]:
    """As the kernel tracks them, judged or not. True: there are more. What leads to the proxy is the first half of
    what comes from it."""
    found, more = [], False
    for answer in client.query_all(options.run_dir, options.node, "conntrack").values():
        more = more or answer["more"]
        for entry in answer["entries"]:
            flags = set(entry["flags"])
            incoming = entry["protocol"] == "TCP" and entry["origin"] == "ingress" and "to_proxy" not in flags
            if incoming and "seen_reply" in flags and not flags & ENDING:
                found.append(Connection(entry["remote"], entry["local"]))
    return found, more


# whom the labels speak of


@dataclass(slots=True)
class Workload:
    """`kind` "Pod": a pod that nobody owns. `name` as the metrics have it."""

    namespace: str
    kind: str
    name: str
    pods: dict[str, list[AddressItem]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    def meshed(self, nodes: Mapping[str, object]) -> str:
        """Pods on nodes of the mesh, of all."""
        ours = sum(any(item.node in nodes for item in items) for items in self.pods.values())
        return f"{ours}/{len(self.pods)}"


class Cast:
    """The workloads, services and routes of a snapshot."""

    def __init__(self, cluster: ClusterPart) -> None:
        self.cluster = cluster
        self.workloads: dict[tuple[str, str, str], Workload] = {}
        self.by_ip: dict[str, Workload] = {}
        for ip, item in cluster.addresses.items():
            if item.pod:
                namespace, _, pod = item.pod.partition("/")
                kind, name = (item.workload_kind, item.workload_name) if item.workload_name else ("Pod", pod)
                workload = self.workloads.setdefault((namespace, kind, name), Workload(namespace, kind, name))
                workload.pods.setdefault(pod, []).append(item)
                self.by_ip[ip] = workload

    def chosen_by(self, namespace: str, labels: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Workloads with a pod that bears the labels, as a subset chooses them."""
        found = set()
        for workload in self.workloads.values():
            for item in (item for items in workload.pods.values() for item in items):
                identity = self.cluster.identities.get(item.identity)
                own = {label.key: label.value for label in identity.labels} if identity is not None else {}
                if workload.namespace == namespace and all(own.get(name) == value for name, value in labels):
                    found.add(workload.key)
        return found


def cast(options: argparse.Namespace) -> Cast:
    """Every node holds the same cluster part."""
    from weft.policies.delta import apply_cluster
    from weft.policies.wire import convert
    from weft.policies.wire.pb import control_pb2, node_pb2

    sockets = client.daemons(options.run_dir, options.node)
    reply: Any = client.call(sockets[min(sockets)], "node", "GetSnapshot", node_pb2.SnapshotRequest())
    if not reply.update:
        raise Failure("the daemon has no snapshot yet: has it reached the operator?")
    update = convert.from_update(control_pb2.Update.FromString(reply.update))
    return Cast(apply_cluster(ClusterPart(), update.cluster))
