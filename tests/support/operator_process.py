"""A real weft-operator for tests, and a node and a person who talk to it over its socket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from weft.policies import delta
from weft.policies.snapshot import Snapshot
from weft.policies.wire.convert import from_update
from weft.policies.wire.pb import control_pb2 as pb
from weft.policies.wire.pb import control_pb2_grpc as rpc

PATIENCE = 10.0


@dataclass
class Operator:
    """`folder` is watched. Start it, kill it, start it again: the state stays."""

    base: Path
    options: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.base / "manifests"

    @property
    def address(self) -> str:
        return f"unix:{self.base}/run/operator.sock"

    @property
    def log(self) -> str:
        return (self.base / "log").read_text()

    def start(self, *, make_folder: bool = True) -> None:
        if make_folder:
            self.folder.mkdir(exist_ok=True)
        (self.base / "log").touch()
        ready = self.log.count("ready:")
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stderr=log, env=os.environ | {"PYTHONUNBUFFERED": "1"})
        self.wait_for(lambda: self.log.count("ready:") > ready)

    def command(self) -> list[str]:
        run, state = self.base / "run", self.base / "state"
        where = [f"--run-dir={run}", f"--state-dir={state}", f"--watch={self.folder}"]
        return [sys.executable, "-m", "weft.operator.main", *where, *self.options]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process is None or self.process.poll() is None, self.log
            assert time.monotonic() < deadline, f"not in {PATIENCE} s\n{self.log}"
            time.sleep(0.01)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process and self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE) if self.process else 0


class Person:
    """Uses the Objects service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = rpc.ObjectsStub(channel)  # type: ignore[no-untyped-call]

    async def apply(self, *manifests: dict[str, Any], namespace: str = "") -> pb.ApplyReply:
        documents = [pb.Document(json=json.dumps(manifest), file="f.yaml", line=3) for manifest in manifests]
        reply: pb.ApplyReply = await self.stub.Apply(
            pb.ApplyRequest(documents=documents, default_namespace=namespace)
        )
        return reply

    async def delete(self, kind: str, namespace: str, name: str) -> pb.DeleteReply:
        ref = pb.ObjectRef(kind=kind, namespace=namespace, name=name)
        reply: pb.DeleteReply = await self.stub.Delete(pb.DeleteRequest(refs=[ref]))
        return reply

    async def status(self) -> pb.StatusReply:
        reply: pb.StatusReply = await self.stub.Status(pb.StatusRequest())
        return reply

    async def until(self, condition: Callable[[pb.StatusReply], object]) -> pb.StatusReply:
        """Asks for the status until it is as wanted; the test's own time limit ends it."""
        while True:
            status = await self.status()
            if condition(status):
                return status
            await asyncio.sleep(0.01)


class NodeAgent:
    """A daemon reduced to its stream: applies what it is told, and acknowledges."""

    def __init__(self, stream: Any, name: str, held: Snapshot | None = None) -> None:
        self.stream = stream
        self.name = name
        self.held = held
        self.epoch = ""
        self.fulls: list[bool] = []

    async def read(self) -> pb.Update:
        message = await self.stream.read()
        assert isinstance(message, pb.Update), "the stream has ended"
        self.held = delta.apply(self.held, from_update(message), self.name)
        self.epoch = message.epoch
        self.fulls.append(message.full)
        return message

    async def acknowledge(self, *refusals: pb.Refusal) -> None:
        revision = self.held.revision if self.held else 0
        await self.stream.write(pb.NodeMessage(ack=pb.Ack(revision=revision, refusals=refusals)))

    async def until(self, condition: Callable[[Snapshot], object]) -> Snapshot:
        """Follows the stream until the snapshot is as wanted."""
        while self.held is None or not condition(self.held):
            await self.read()
            await self.acknowledge()
        return self.held


@asynccontextmanager
async def person(operator: Operator) -> AsyncIterator[Person]:
    async with grpc.aio.insecure_channel(operator.address) as channel:
        yield Person(channel)


@asynccontextmanager
async def node(
    operator: Operator, name: str = "node-1", held: Snapshot | None = None, epoch: str = "", address: str = ""
) -> AsyncIterator[NodeAgent]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(operator.address, options=options) as channel:
        stream = rpc.ControlStub(channel).Stream()  # type: ignore[no-untyped-call]
        hello = pb.Hello(
            node=name,
            addresses=[address or "172.30.0.1"],
            version="test",
            revision=held.revision if held else 0,
            epoch=epoch,
        )
        await stream.write(pb.NodeMessage(hello=hello))
        try:
            yield NodeAgent(stream, name, held)
        finally:
            stream.cancel()
