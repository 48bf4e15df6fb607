"""Scheduler, kubelet and endpoint controller in one: makes the machine what the store says, and tells the store.

Whatever happens (an object changed, a pod became ready, one is gone) leads to the same `reconcile`: read what is
wanted, compare with what is, take the next steps. No event is handled for itself, so none can be missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from weft.daemon.local import endpoints, notes, plan
from weft.daemon.local.addresses import Exhausted, PodNumbers
from weft.daemon.local.endpoints import Backend, ServiceAddresses
from weft.daemon.local.manifests import external_addresses
from weft.daemon.local.node import Node
from weft.daemon.local.pod import Context, Pod
from weft.daemon.local.state import PodState, State, WorkloadState, write_state
from weft.daemon.local.store import Store
from weft.policies.model import ObjectRef

log = logging.getLogger("weft.local")
SETTLE = 0.01  # seconds in which further changes join a reconciliation


class Controller:
    """`state` is what others read; the supervisor adds its programs' to it."""

    def __init__(self, context: Context, state: State) -> None:
        self.context = context
        self.state = state
        self.store = Store(context.cluster.operator_socket, self._object_changed)
        self._nodes = {node.name: node for node in context.nodes}
        self._numbers = {node.name: PodNumbers() for node in context.nodes}
        self._taken: dict[str, tuple[str, int]] = {}  # node and host number by pod
        self._pods: dict[str, Pod] = {}
        self._workload: dict[str, str] = {}  # by pod
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._services = ServiceAddresses()
        self._unplaced: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._dirty = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    def state_changed(self) -> None:
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.store.run())
            tasks.create_task(self._reconcile_for_ever())
            tasks.create_task(self._publish_for_ever())

    async def _reconcile_for_ever(self) -> None:
        await self.store.synced.wait()
        for node in self.context.nodes:
            self.store.put(node.manifest())
        while True:
            self.reconcile()
            self._dirty.set()
            await self._wake.wait()
            await asyncio.sleep(SETTLE)
            self._wake.clear()

    async def _publish_for_ever(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            write_state(self.context.cluster, self.state)
            await asyncio.sleep(0.03)

    # What happens

    def _object_changed(self, ref: ObjectRef) -> None:
        if ref.kind == "Pod" and ref not in self.store.objects:
            pod = self._pods.get(f"{ref.namespace}/{ref.name}")
            if pod is not None and not pod.state.terminating:
                self._stop(pod.key)  # deleted by somebody; if a workload wants it, it comes anew
        if ref.kind == "Service" and ref not in self.store.objects:
            self._services.forget(f"{ref.namespace}/{ref.name}")
        self.wake()

    def _pod_changed(self, pod: Pod) -> None:
        if self._pods.get(pod.key) is pod:
            self.wake()

    # What should be

    def reconcile(self) -> None:
        want = plan.wanted(self.store.objects, tuple(self._nodes))
        have = [self._have(pod) for pod in self._pods.values()]
        steps = plan.steps(want, have)
        for key in steps.stop:
            self._stop(key)
        for each in steps.start:
            self._start(each)
        self._tell_pods(want)
        self._tell_services()
        self._tell_slices()
        self._summarise(want)

    def _have(self, pod: Pod) -> plan.Have:
        state = pod.state
        return plan.Have(pod.key, pod.digest, self._workload[pod.key], state.settled, state.terminating)

    def _start(self, want: plan.Want) -> None:
        load = Counter(pod.node.name for pod in self._pods.values() if not pod.external)
        labels = {name: node.labels for name, node in self._nodes.items()}
        try:
            outside = bool(external_addresses(want.manifest))
            node = self._nodes[plan.place(want.manifest, labels, {} if outside else load)]
            ips = self._addresses(want, node) if not outside else ()
        except (LookupError, Exhausted) as error:
            self._unplaced[want.key] = str(error.args[0])
            return
        self._unplaced.pop(want.key, None)
        pod = Pod(self.context, want.manifest, want.digest, node, ips, self._pod_changed, self.store.objects)
        pod.state.workload = want.workload
        self._pods[want.key], self._workload[want.key] = pod, want.workload
        log.info("pod %s: on %s, %s", want.key, node.name, ", ".join(ips) or "outside")
        pod.start()

    def _addresses(self, want: plan.Want, node: Node) -> tuple[str, ...]:
        if want.manifest["spec"].get("hostNetwork") is True:
            return node.net.addresses
        number = self._numbers[node.name].take()
        self._taken[want.key] = node.name, number
        return node.net.pod(number)

    def _stop(self, key: str) -> None:
        if key not in self._stopping:
            self._stopping[key] = asyncio.create_task(self._stop_now(self._pods[key]), name=f"stop {key}")

    async def _stop_now(self, pod: Pod) -> None:
        log.info("pod %s: stops", pod.key)
        try:
            await pod.stop()
        except (OSError, TimeoutError):
            log.exception("pod %s: is not gone", pod.key)
        finally:
            del self._pods[pod.key], self._workload[pod.key], self._stopping[pod.key]
            if taken := self._taken.pop(pod.key, None):
                self._numbers[taken[0]].give_back(taken[1])
            self.wake()

    # What the store should know

    def _tell_pods(self, want: plan.Wanted) -> None:
        for pod in self._pods.values():
            ref = ObjectRef("Pod", pod.state.namespace, pod.state.name)
            if not pod.state.terminating and (ref in self.store.objects or plan.generated(pod.manifest)):
                self.store.put(pod_manifest(pod, self.store.objects.get(ref)))
        for ref, manifest in self.store.of_kind("Pod"):
            key = f"{ref.namespace}/{ref.name}"
            if plan.generated(manifest) and key not in want.pods and key not in self._pods:
                self.store.delete(ref)

    def _tell_services(self) -> None:
        for ref, manifest in self.store.of_kind("Service"):
            self.state.problems.pop(str(ref), None)
            try:
                completed = self._services.complete(manifest)
            except (Exhausted, ValueError) as error:
                self.state.problems[str(ref)] = str(error)
                continue
            if completed is not None:
                self.store.put(completed)

    def _tell_slices(self) -> None:
        pods = [backend(pod) for pod in self._pods.values() if pod.serves]
        slices = [
            each for _, manifest in self.store.of_kind("Service") for each in endpoints.slices(manifest, pods)
        ]
        for each in slices:
            self.store.put(each)
        named = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in slices}
        for ref, manifest in self.store.of_kind("EndpointSlice"):
            if endpoints.is_ours(manifest) and (ref.namespace, ref.name) not in named:
                self.store.delete(ref)

    # What people should know

    def _summarise(self, want: plan.Wanted) -> None:
        self.state.pods = {key: pod.state for key, pod in sorted(self._pods.items())}
        for key, reason in self._unplaced.items():
            if key in want.pods and key not in self._pods:
                namespace, _, name = key.partition("/")
                self.state.pods[key] = PodState(namespace, name, reason=reason, workload=want.pods[key].workload)
        desired = Counter(each.workload for each in want.pods.values())
        self.state.workloads = {
            name: self._workload_state(name, digest, desired[name], want) for name, digest in want.workloads.items()
        }
        refused = {str(ref): reason for ref, reason in self.store.refused.items()}
        kept = {name: why for name, why in self.state.problems.items() if name.startswith("Service ")}
        self.state.problems = kept | refused
        self.state.notes = notes.notes(self.store.objects)

    def _workload_state(self, name: str, digest: str, desired: int, want: plan.Wanted) -> WorkloadState:
        mine = [pod for key, pod in self._pods.items() if self._workload[key] == name]
        current = [pod for pod in mine if pod.key in want.pods and pod.digest == want.pods[pod.key].digest]
        ready = sum(pod.state.settled for pod in current)
        return WorkloadState(digest, desired, ready, len(mine) - len(current), want.problems.get(name, ""))


def backend(pod: Pod) -> Backend:
    ports = {(p.name, p.protocol): p.port for container in pod.containers for p in container.ports if p.name}
    labels = pod.manifest["metadata"].get("labels") or {}
    state = pod.state
    return Backend(state.namespace, state.name, labels, tuple(state.ips), state.node, state.ready, ports)


def pod_manifest(pod: Pod, stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """As declared, with where it is and how it does. A host outside has neither node nor address: it is no
    workload, and whoever meets its address takes it for the world."""
    state = pod.state
    status: dict[str, Any] = {
        "phase": state.phase,
        "conditions": [_condition("Ready", state.ready, stored)],
        "containerStatuses": [
            {"name": name, "ready": each.ready, "restartCount": each.restarts}
            for name, each in state.containers.items()
        ],
    }
    manifest = {**pod.manifest, "status": status}
    if not pod.external and not external_addresses(pod.manifest):
        status |= {"hostIP": pod.node.net.addresses[0], "podIP": state.ips[0]}
        status["podIPs"] = [{"ip": ip} for ip in state.ips]
        manifest["spec"] = {**pod.manifest["spec"], "nodeName": state.node}
    return manifest


def _condition(kind: str, holds: bool, stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """The time in it is that of the last change."""
    said = "True" if holds else "False"
    for before in ((stored or {}).get("status") or {}).get("conditions") or ():
        if (before.get("type"), before.get("status")) == (kind, said):
            return dict(before)
    return {"type": kind, "status": said, "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
