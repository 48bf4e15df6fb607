"""The daemon's data plane and steering, without the rest of it, and without a proxy: a test says what happens when.

Runs in the node's network namespace. argv: pin directory, cgroup. Orders on standard input, a line each, answered
by a line of JSON: `snapshot PATH` (a full control.v1.Update), `prepare`, `enable`, `disable`, `retire`, `whole`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from weft.bpf.loader import load
from weft.daemon import netlink
from weft.daemon.datapath.kernel import Maps, PinnedKernel
from weft.daemon.datapath.programs import Programs
from weft.daemon.datapath.reconcile import Facts, Reconciler
from weft.daemon.steering import Steering
from weft.policies.delta import ClusterDelta, NodeDelta, apply, between, between_nodes
from weft.policies.wire import convert
from weft.policies.wire.pb import control_pb2 as pb

NODE = "node-1"


class SteeredNode:
    def __init__(self, pin_dir: Path, cgroup: Path) -> None:
        load.run(pin_dir)
        self.kernel = PinnedKernel(Maps(pin_dir), Programs(pin_dir))
        self.kernel.configure(audit=False, trace_interval_ms=5000)
        self.kernel.programs.attach_cgroup(cgroup)
        self.datapath = Reconciler(self.kernel, NODE)
        self.steering = Steering(self.kernel, self.kernel.programs)

    def snapshot(self, path: str) -> None:
        message = pb.Update()
        message.ParseFromString(Path(path).read_bytes())
        held = self.datapath.snapshot
        snapshot = apply(None, convert.from_update(message), NODE)
        if held is None:
            changes = ClusterDelta(), NodeDelta()
        else:
            changes = between(held.cluster, snapshot.cluster), between_nodes(held.own, snapshot.own)
        self.datapath.take_facts(asyncio.run(_facts()))
        self.datapath.take_snapshot(snapshot, *changes)
        self.datapath.apply()
        assert not self.datapath.refusals(), self.datapath.refusals()
        assert not self.datapath.writer.problems, self.datapath.writer.problems

    def prepare(self) -> None:
        self.steering.prepare()
        self.datapath.proxied = True
        self.datapath.apply()

    def enable(self) -> None:
        self.steering.enable()

    def disable(self) -> None:
        self.steering.disable()

    def retire(self) -> None:
        self.datapath.proxied = False
        self.datapath.apply()
        self.steering.retire()

    def whole(self) -> bool:
        return self.steering.whole()


async def _facts() -> Facts:
    watch = netlink.Watch(lambda: None)
    ready = asyncio.Event()
    running = asyncio.create_task(watch.run(ready))
    await ready.wait()
    running.cancel()
    known = watch.facts
    return Facts(dict(known.routes), dict(known.links), frozenset(address for _, address in known.addresses))


def main() -> None:
    node = SteeredNode(Path(sys.argv[1]), Path(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        order, *words = line.split()
        try:
            answer = getattr(node, order)(*words)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
