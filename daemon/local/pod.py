"""One pod, from placed to gone.

    network and files -> told to the store -> policy in force -> init containers -> containers
    (the store learns of it through `changed`)   ... stop: containers, cgroup, network

The order is the promise of `weft local`: no instruction of a pod runs before the node enforces its policy, and
the programs on its veth stay until its last process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weft.daemon.dns import ADDRESSES as DNS_ADDRESSES
from weft.daemon.local import cgroup, echo, namespaces, network, teardown
from weft.daemon.local.container import Place, Runner
from weft.daemon.local.environment import Facts, NotYet, source_data
from weft.daemon.local.manifests import Container, PodSpec, external_addresses, read_pod
from weft.daemon.local.names import Cluster
from weft.daemon.local.network import PodLink
from weft.daemon.local.node import Node
from weft.daemon.local.state import Config, ContainerState, PodState
from weft.daemon.netlink import NetlinkError
from weft.policies.errors import Invalid
from weft.policies.model import ObjectRef

#: Seconds between leaving the Services and TERM: no node chooses it for a new connection any more by then.
DRAIN = 0.3
RETRIES = (0.1, 0.5, 2, 5)  # seconds
MISSING = 0.1  # seconds between looks for a ConfigMap or Secret that is not there yet
log = logging.getLogger("weft.local")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Context:
    """What all pods share. `nodes` in the order of their index."""

    cluster: Cluster
    config: Config
    nodes: tuple[Node, ...]


class Pod:
    """`node` None: a host outside, or one that nobody can place. `manifest` as the workload or the user gave it."""

    def __init__(
        self, context: Context, manifest: Mapping[str, Any], digest: str, node: Node, ips: tuple[str, ...],
        changed: Callable[[Pod], None], objects: Mapping[ObjectRef, Mapping[str, Any]],
    ) -> None:  # fmt: skip
        metadata = manifest["metadata"]
        self.manifest = manifest
        self.digest = digest
        self.node = node
        self.state = PodState(metadata["namespace"], metadata["name"], node=node.name, ips=list(ips))
        self._context = context
        self._changed = changed
        self._objects = objects
        self._runners: list[Runner] = []
        self._task: asyncio.Task[None] | None = None
        self._spec: PodSpec | None = None

    @property
    def key(self) -> str:
        return f"{self.state.namespace}/{self.state.name}"

    @property
    def external(self) -> bool:
        return self._spec is not None and bool(self._spec.external)

    @property
    def serves(self) -> bool:
        """Whether it may stand behind a Service, ready or not: a workload, read and not ending."""
        return bool(self.containers) and not self.external and not self.state.terminating

    @property
    def containers(self) -> tuple[Container, ...]:
        return self._spec.containers if self._spec else ()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"pod {self.key}")

    async def stop(self) -> None:
        """Returns when nothing of it is left on the machine."""
        served = self.serves and self.state.ready
        self.state.terminating, self.state.ready = True, False
        self._changed(self)
        grace = self._spec.grace if self._spec else 0
        if self._task and not self._task.done():
            if served and grace:
                await asyncio.sleep(min(DRAIN, grace))
            if self._runners:
                await asyncio.gather(*(runner.stop(grace) for runner in self._runners))
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._unmake)

    # Making it

    async def _run(self) -> None:
        try:
            self._spec = spec = await self._read()
            self.state.warnings = list(spec.warnings)
            for container in (*spec.init, *spec.containers):
                self.state.containers[container.name] = ContainerState(init=container in spec.init)
            await self._make_at_last(spec)
            self._say("waiting for its policy to be in force")
            if not spec.external and not spec.host_network:
                await self.node.wait_endpoint(self.state.namespace, self.state.name, tuple(self.state.ips))
            self._say("")
            await self._live(spec)
        except Invalid as error:
            self.state.phase = "Failed"
            self._say(str(error))
        except Exception as error:
            log.exception("pod %s", self.key)
            self.state.phase = "Failed"
            self._say(f"{type(error).__name__}: {error}")

    async def _read(self) -> PodSpec:
        """Once all that its environment names is there."""
        facts = Facts(self.node.name, self.node.net.addresses[0], tuple(self.state.ips), self._source)
        while True:
            try:
                return read_pod(self.manifest, self._context.config.images, facts)
            except NotYet as missing:
                if self.state.reason != (reason := f"waiting: {missing}"):
                    self._say(reason)
                await asyncio.sleep(MISSING)

    def _source(self, kind: str, name: str) -> Mapping[str, str] | None:
        manifest = self._objects.get(ObjectRef(kind, self.state.namespace, name))
        return None if manifest is None else source_data(manifest)

    async def _make_at_last(self, spec: PodSpec) -> None:
        """What the kernel refuses now it may grant soon: tried again, as a kubelet does."""
        for wait in RETRIES:
            try:
                await asyncio.to_thread(self._make, spec)
                return
            except (OSError, LookupError, NetlinkError) as error:
                log.warning("pod %s: %s", self.key, error)
                self._say(f"cannot be made yet: {error}")
                await asyncio.sleep(wait)
        await asyncio.to_thread(self._make, spec)

    def _say(self, reason: str) -> None:
        self.state.reason = reason
        self._changed(self)

    def _make(self, spec: PodSpec) -> None:
        cluster, state = self._context.cluster, self.state
        cgroup.make(self.cgroup)
        self._write_files(spec)
        if spec.host_network:
            return
        teardown.note_netns(cluster, self.netns)
        if spec.external:
            state.node, state.ips = "", list(spec.external)
            network.make_outside(cluster, state.namespace, state.name, spec.external, len(self._context.nodes))
        else:
            link = PodLink(state.namespace, state.name, self.node.index, tuple(state.ips))
            network.make_pod(cluster, link)

    def _unmake(self) -> None:
        cluster, state = self._context.cluster, self.state
        cgroup.remove(self.cgroup)
        if self._spec is None or self._spec.host_network:
            return
        if self._spec.external:
            network.unmake_outside(cluster, state.namespace, state.name, state.ips, len(self._context.nodes))
        else:
            network.unmake_pod(cluster, state.namespace, state.name)
        teardown.forget_netns(cluster, self.netns)

    @property
    def netns(self) -> str:
        if self._spec and self._spec.host_network:
            return self.node.netns
        return self._context.cluster.pod_netns(self.state.namespace, self.state.name)

    @property
    def cgroup(self) -> Path:
        """A host outside is in none of a node's: its sockets are not the mesh's."""
        where = teardown.OUTSIDE if external_addresses(self.manifest) else self.node.name
        root = cgroup.mount_point()
        return self._context.cluster.pod_cgroup(root, where, self.state.namespace, self.state.name)

    @property
    def folder(self) -> Path:
        return self._context.cluster.pod_dir(self.state.namespace, self.state.name)

    def _write_files(self, spec: PodSpec) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        namespace = self.state.namespace
        search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local"
        resolv = f"nameserver {DNS_ADDRESSES[0]}\nsearch {search}\noptions ndots:5\n"
        hosts = [
            "127.0.0.1 localhost",
            "::1 localhost ip6-localhost",
            *(f"{ip} {self.hostname}" for ip in self.state.ips),
        ]
        (self.folder / "resolv.conf").write_text("" if spec.external else resolv)
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        (self.folder / "hostname").write_text(self.hostname + "\n")

    @property
    def hostname(self) -> str:
        named = self.manifest["spec"].get("hostname") or self.state.name
        return str(named)[:63]

    def _place(self) -> Place:
        files = {f"/etc/{name}": str(self.folder / name) for name in ("resolv.conf", "hosts", "hostname")}
        account = self.manifest["spec"].get("serviceAccountName") or "default"
        env = {
            # `python3` in a pod is the one that runs Weft, whatever the caller's shell has first.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', SYSTEM_PATH)}",
            "HOME": "/root",
            "HOSTNAME": self.hostname,
            "PYTHONUNBUFFERED": "1",  # logs are read while they are written
            "WEFT_POD": self.state.name,
            "WEFT_NAMESPACE": self.state.namespace,
            "WEFT_NODE": self.node.name,
            "WEFT_SERVICE_ACCOUNT": account,
        }
        spec = self._spec
        outside = spec is not None and bool(spec.external)
        return Place(
            folder=self.folder,
            cgroup=self.cgroup,
            netns=str(namespaces.path(self.netns)),
            hostname=self.hostname,
            files=files,
            env=env,
            cwd=self._context.config.cwd,
            probe_from=self.netns if outside else self.node.netns,
            ip=self.state.ips[0],
        )

    # Living

    async def _live(self, spec: PodSpec) -> None:
        place = self._place()
        if not await self._initialise(spec, place):
            return
        self.state.phase, self.state.started = "Running", time.time()
        self._runners = [self._runner(container, place) for container in spec.containers]
        codes = await asyncio.gather(*(runner.run(spec.restart) for runner in self._runners))
        self.state.phase = "Succeeded" if all(code == 0 for code in codes) else "Failed"
        self._refresh()

    async def _initialise(self, spec: PodSpec, place: Place) -> bool:
        """Each to its end before the next. False: one failed, and the pod is not to be tried again."""
        restart = "Never" if spec.restart == "Never" else "OnFailure"
        for container in spec.init:
            runner = self._runner(container, place)
            self._runners = [runner]
            if await runner.run(restart) != 0:
                self.state.phase = "Failed"
                self._say(f"init container {container.name} failed")
                return False
        return True

    def _runner(self, container: Container, place: Place) -> Runner:
        if not container.argv:
            container = replace(container, argv=echo_command(container))
        return Runner(container, place, self.state.containers[container.name], self._refresh)

    def _refresh(self) -> None:
        """The pod's state from its containers'."""
        spec, state = self._spec, self.state
        if spec is None or state.terminating:
            return
        mine = [state.containers[container.name] for container in spec.containers]
        state.ready = state.phase == "Running" and all(each.ready for each in mine)
        reasons = [f"{name}: {each.reason}" for name, each in state.containers.items() if each.reason]
        waiting = [reason for reason in reasons if not reason.endswith(": Completed")]
        state.reason = "" if state.ready or state.phase == "Succeeded" else "; ".join(waiting)
        self._changed(self)


def echo_command(container: Container) -> tuple[str, ...]:
    """Weft's echo server on the container's ports; by the kind that a port's name or protocol says."""
    words = []
    for port in container.ports:
        kind = "udp" if port.protocol == "UDP" else "tcp" if port.name.startswith("tcp") else "http"
        if port.protocol != "SCTP":  # no sockets for it in Python everywhere
            words.append(f"{port.port}/{kind}")
    return (sys.executable, "-I", "-S", str(Path(echo.__file__)), *words)
