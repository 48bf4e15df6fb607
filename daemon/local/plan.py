"""Which pods there should be and where, and what to start and stop to get there. Pure.

Have and want in, the next steps out; asked again after each step is done, until there is none.

1. A pod that nobody wants any more is stopped. Of a Deployment whose template changed, old pods stay until as many
   new ones are ready (strategy Recreate: new ones wait until the old are gone).
2. A pod that is wanted otherwise than it runs is stopped, and started when it is gone.
3. A pod that is wanted and not there is started.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weft.policies import workloads
from weft.policies.errors import Invalid
from weft.policies.model import ObjectRef
from weft.policies.yamldoc import Document

Manifest = Mapping[str, Any]
WORKLOAD = "weft.dev/workload"  # annotation of generated pods: "Deployment default/orders"


@dataclass(frozen=True, slots=True)
class Want:
    """A pod that should be. `workload`: what it was made from; its own "Pod ns/name" if it was declared itself."""

    key: str
    manifest: Manifest
    workload: str
    recreate: bool = False

    @property
    def digest(self) -> str:
        return digest(self.manifest)


@dataclass(frozen=True, slots=True)
class Have:
    """A pod that is: `gone` is none, `terminating` soon none."""

    key: str
    digest: str
    workload: str
    ready: bool
    terminating: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """`problems`: workloads that cannot be read, by their name; what they had stays."""

    pods: Mapping[str, Want]
    workloads: Mapping[str, str] = field(default_factory=dict)  # digest by workload
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steps:
    start: tuple[Want, ...]
    stop: tuple[str, ...]


def digest(manifest: Manifest) -> str:
    """Of what was declared: without what the runtime writes into it (status, node, annotation)."""
    spec = {key: value for key, value in (manifest.get("spec") or {}).items() if key != "nodeName"}
    rest = {key: value for key, value in manifest.items() if key not in ("status", "spec")}
    return hashlib.sha256(json.dumps([rest, spec], sort_keys=True).encode()).hexdigest()[:16]


def generated(manifest: Manifest) -> str:
    """The workload a pod was made from; "" for one that was declared."""
    return str((manifest["metadata"].get("annotations") or {}).get(WORKLOAD, ""))


def wanted(objects: Mapping[ObjectRef, Manifest], nodes: Sequence[str]) -> Wanted:
    pods: dict[str, Want] = {}
    digests: dict[str, str] = {}
    problems: dict[str, str] = {}
    for ref, manifest in sorted(objects.items()):
        if ref.kind == "Pod" and generated(manifest):
            continue
        if ref.kind != "Pod" and ref.kind not in workloads.KINDS:
            continue
        digests[str(ref)] = digest(manifest)
        try:
            found = workloads.pods(Document(dict(manifest)), ref.namespace, nodes)
        except Invalid as error:
            problems[str(ref)] = str(error)
            continue
        recreate = ((manifest["spec"] or {}).get("strategy") or {}).get("type") == "Recreate"
        for pod in found:
            want = _want(ref, pod, recreate)
            if want.key in pods:
                problems[str(ref)] = f"pod {want.key} is made by {pods[want.key].workload} already"
            else:
                pods[want.key] = want
    return Wanted(pods, digests, problems)


def _want(ref: ObjectRef, pod: Manifest, recreate: bool) -> Want:
    metadata = pod["metadata"]
    key = f"{metadata['namespace']}/{metadata['name']}"
    if ref.kind == "Pod":
        return Want(key, pod, str(ref))
    annotations = {**(metadata.get("annotations") or {}), WORKLOAD: str(ref)}
    return Want(key, {**pod, "metadata": {**metadata, "annotations": annotations}}, str(ref), recreate)


def steps(want: Wanted, have: Iterable[Have]) -> Steps:
    there = {pod.key: pod for pod in have}
    stop: list[str] = []
    new_ready = Counter(
        pod.workload
        for pod in there.values()
        if pod.ready and not pod.terminating and pod.key in want.pods and want.pods[pod.key].digest == pod.digest
    )
    desired = Counter(each.workload for each in want.pods.values())
    old = Counter[str]()
    for pod in there.values():
        if pod.terminating or pod.workload in want.problems:
            continue
        if pod.key in want.pods:
            if want.pods[pod.key].digest != pod.digest:
                stop.append(pod.key)
            continue
        old[pod.workload] += 1
        recreate = any(each.recreate for each in want.pods.values() if each.workload == pod.workload)
        spare = desired[pod.workload] - new_ready[pod.workload]
        if recreate or old[pod.workload] > spare:
            stop.append(pod.key)
    remains = Counter(pod.workload for pod in there.values() if pod.key not in want.pods)
    start = [
        each
        for key, each in want.pods.items()
        if key not in there and not (each.recreate and remains[each.workload])
    ]
    return Steps(tuple(start), tuple(stop))


def place(manifest: Manifest, nodes: Mapping[str, Mapping[str, str]], load: Mapping[str, int]) -> str:
    """The node of a pod: the one it names, else the emptiest that its nodeSelector lets. `nodes`: labels by name.
    Raises LookupError that says why there is none."""
    spec = manifest.get("spec") or {}
    if name := spec.get("nodeName"):
        if name not in nodes:
            raise LookupError(f"there is no node {name}")
        return str(name)
    selector: Mapping[str, str] = spec.get("nodeSelector") or {}
    fit = [name for name, labels in nodes.items() if selector.items() <= labels.items()]
    if not fit:
        raise LookupError(f"no node has the labels {json.dumps(dict(selector))}")
    return min(fit, key=lambda name: (load.get(name, 0), list(nodes).index(name)))
