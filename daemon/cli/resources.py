"""Words for resources on the command line, `deploy/web`, and which of the metrics' labels speak of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weft.daemon.cli.failure import Failure
from weft.daemon.cli.traffic import Cast, Labels, Workload

#: short name -> (Kubernetes' kind, other spellings)
KINDS: Final = {
    "deploy": ("Deployment", ("deployment", "deployments")),
    "sts": ("StatefulSet", ("statefulset", "statefulsets")),
    "ds": ("DaemonSet", ("daemonset", "daemonsets")),
    "rs": ("ReplicaSet", ("replicaset", "replicasets")),
    "job": ("Job", ("jobs",)),
    "cj": ("CronJob", ("cronjob", "cronjobs")),
    "po": ("Pod", ("pod", "pods")),
    "svc": ("Service", ("service", "services")),
    "ns": ("Namespace", ("namespace", "namespaces")),
    "ts": ("TrafficSplit", ("trafficsplit", "trafficsplits")),
}
_SPELLINGS: Final = {word: short for short, (_, words) in KINDS.items() for word in (short, *words)}


def resource(words: Sequence[str]) -> tuple[str, str]:
    """`deploy`, `deploy web`, `deploy/web` -> (short kind, name or "")."""
    if len(words) > 2 or (len(words) == 2 and "/" in words[0]):
        raise Failure(f"{' '.join(words)}: KIND, KIND NAME or KIND/NAME", 2)
    kind, _, name = words[0].partition("/")
    short = _SPELLINGS.get(kind.lower())
    if short is None:
        raise Failure(f"no kind {kind!r}: there are {', '.join(KINDS)}", 2)
    return short, name or (words[1] if len(words) == 2 else "")


@dataclass(frozen=True, slots=True)
class Party:
    """One side of requests. `workloads`: (namespace, name), of a service empty."""

    workloads: frozenset[tuple[str, str]] = frozenset()
    service: tuple[str, str] | None = None

    @classmethod
    def read(cls, text: str, namespace: str, cast: Cast) -> Party:
        """Failure if there is no such thing."""
        kind, name = resource([text])
        if kind == "svc" and f"{namespace}/{name}" in cast.cluster.services:
            return cls(service=(namespace, name))
        found = frozenset(
            workload.key for workload in cast.workloads.values() if _means(kind, name, namespace, workload)
        )
        if not found:
            raise Failure(f"no {text} in namespace {namespace}")
        return cls(found)

    def sent(self, labels: Labels) -> bool:
        return self._are(labels, "source")

    def received(self, labels: Labels) -> bool:
        if self.service:
            return self.service == (
                labels.get("destination_service_namespace"),
                labels.get("destination_service_name"),
            )
        return self._are(labels, "destination")

    def has(self, workload: Workload) -> bool:
        """Of a service nobody: connections are of workloads."""
        return workload.key in self.workloads

    def _are(self, labels: Labels, side: str) -> bool:
        return (labels.get(f"{side}_workload_namespace"), labels.get(f"{side}_workload")) in self.workloads


def _means(kind: str, name: str, namespace: str, workload: Workload) -> bool:
    if kind == "ns":
        return workload.namespace == (name or namespace)
    if workload.namespace != namespace:
        return False
    if kind == "po":
        return not name or name in workload.pods
    return workload.kind == KINDS[kind][0] and name in ("", workload.name)
