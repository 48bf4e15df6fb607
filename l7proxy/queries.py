"""Answers to the daemon's questions, as plain values: what this worker has in force and what it is doing.

routes [HOST], clusters [HOST], endpoints [HOST], config, connections, status. `weft proxy ...` shows them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from weft.l7proxy.core import describe
from weft.policies.mesh.model import MeshSettings

if TYPE_CHECKING:
    from weft.l7proxy.worker import Worker

#: Connections in one answer.
MOST_CONNECTIONS: Final = 5000


def answer(worker: Worker, what: str, arg: str) -> object:
    """LookupError: there is no such question, or no such host."""
    found = _ANSWERS.get(what)
    if found is None:
        raise LookupError(f"no such question: {what!r} (there are {', '.join(_ANSWERS)})")
    return found(worker, arg)


def _status(worker: Worker, arg: str) -> dict[str, Any]:
    shell, part = worker.shell, worker.world.snapshot.cluster
    return {
        "worker": worker.options.worker,
        "generation": worker.options.generation,
        "pid": os.getpid(),
        "uptime": round(time.monotonic() - worker.started, 1),
        "revision": worker.revision,
        "state": "draining" if shell.draining else "serving" if worker.ready else "starting",
        "listeners": [f"{ip}:{port}" for ip, port in worker.addresses()],
        "connections": len(shell.open),
        "accepted": shell.accepted,
        "requests_active": len(worker.engine.active),
        "own_faults": worker.engine.errors,
        "requests_revoked": worker.engine.revoked,
        "connects": worker.connector.attempts,
        "port_clashes": worker.connector.port_clashes,
        **worker.telling.describe(),
        "series_overflowed": worker.counts.overflowed,
        "counted": dict(shell.counted),
        "counters_shared": not worker.counters_problem and worker.options.counters is not None,
        "counters_problem": worker.counters_problem,
        "refused": dict(worker.refusals()),
        "routed_hosts": len(part.routing),
        "services": len(part.services),
        "addresses": len(part.addresses),
        "policies": len(part.policies),
        "memory": memory(),
    }


def _routes(worker: Worker, arg: str) -> list[Any]:
    routing = worker.world.snapshot.cluster.routing
    if arg and arg not in routing:
        raise LookupError(f"nothing is declared for host {arg!r}")
    return [msgspec.to_builtins(routing[host]) for host in ([arg] if arg else sorted(routing))]


def _clusters(worker: Worker, arg: str) -> list[Any]:
    return describe.clusters(worker.clusters, arg)


def _endpoints(worker: Worker, arg: str) -> list[Any]:
    return describe.endpoints(worker.clusters, arg)


def _config(worker: Worker, arg: str) -> dict[str, Any]:
    setup, part = worker.setup, worker.world.snapshot.cluster
    return {
        "setup": {
            "node": setup.node,
            "addresses": list(setup.addresses),
            "mark": setup.mark,
            "port": setup.port,
            "source_ports": [setup.first_port, setup.last_port],
            "dns": list(setup.dns),
            "locality": setup.locality,
        },
        "revision": worker.revision,
        "mesh": msgspec.to_builtins(_shown(worker.world.settings)),
        "telemetry": {key: msgspec.to_builtins(item) for key, item in sorted(part.telemetry.items())},
        "names": describe.names(worker.clusters),
        "routes": _routes(worker, ""),
    }


def _shown(settings: MeshSettings) -> MeshSettings:
    """Without what collectors are shown to let us in."""
    providers = tuple(
        msgspec.structs.replace(provider, headers=tuple((name, "(hidden)") for name, _ in provider.headers))
        for provider in settings.providers
    )
    return msgspec.structs.replace(settings, providers=providers)


def _connections(worker: Worker, arg: str) -> list[Any]:
    found = [connection.describe() for connection in list(worker.shell.open)[:MOST_CONNECTIONS]]
    return [item for item in found if not arg or arg in (item["source"][0], item["destination"][0])]


_ANSWERS: Final[Mapping[str, Callable[[Worker, str], object]]] = {
    "routes": _routes,
    "clusters": _clusters,
    "endpoints": _endpoints,
    "config": _config,
    "connections": _connections,
    "status": _status,
}


def memory() -> dict[str, int]:
    """Bytes: resident, and the anonymous part of it."""
    wanted = {"VmRSS": "resident", "RssAnon": "anonymous"}
    found = {}
    with open("/proc/self/status", encoding="ascii") as lines:
        for line in lines:
            name, _, rest = line.partition(":")
            if name in wanted:
                found[wanted[name]] = int(rest.split()[0]) * 1024
    return found
