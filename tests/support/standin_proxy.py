"""A worker that speaks the feed and carries nothing: for tests of what the daemon does with workers.

What it does is read from `<run dir>/standin.json` at its start and at each update:
  refuse: {resource: reason}   what it refuses        die: true      it ends at once with exit code 3
  mute: true  (at its start)   never ready            deaf: true     it reads nothing after its Hello
  drain: seconds               how long it drains
What it was asked and told it writes to `<run dir>/standin-<pid>.log`, a word a line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from weft.policies.wire.pb import control_pb2
from weft.policies.wire.pb import proxy_pb2 as pb


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--daemon", required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--takeover", action="store_true")
    parser.add_argument("--counters")
    return parser.parse_args()


class StandIn:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.log = options.run_dir / f"standin-{os.getpid()}.log"
        self.held = 0
        self.draining = False
        self.mute = bool(self.plan().get("mute"))

    def plan(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.options.run_dir / "standin.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def note(self, word: str) -> None:
        with open(self.log, "a") as file:
            print(word, file=file)

    def run(self) -> None:
        if self.plan().get("die"):
            print("told to die", file=sys.stderr)
            sys.exit(3)
        self.note("takeover" if self.options.takeover else "started")
        while True:
            with contextlib.suppress(OSError, EOFError):
                self.connection()
            time.sleep(0.05)

    def connection(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.options.daemon)
            hello = pb.Hello(
                version="0.1.0", pid=os.getpid(), worker=self.options.worker, generation=self.options.generation
            )
            send(sock, pb.FromProxy(hello=hello))
            if self.plan().get("deaf"):
                time.sleep(1000)
            ready = False
            while True:
                message = receive(sock)
                self.note(str(message.WhichOneof("message")))
                if message.HasField("update"):
                    self.take(sock, message.update)
                    if not ready and not self.mute:
                        ready = True
                        send(sock, pb.FromProxy(ready=pb.Ready()))
                elif message.HasField("query"):
                    query = message.query
                    state = "draining" if self.draining else "serving"
                    answer = {"what": query.what, "arg": query.arg, "held": self.held, "state": state}
                    send(sock, pb.FromProxy(reply=pb.Reply(id=query.id, json=json.dumps(answer).encode())))
                elif message.HasField("flush"):
                    send(sock, pb.FromProxy(counts=one_request()))
                elif message.HasField("drain"):
                    self.draining = True
                    threading.Timer(float(self.plan().get("drain", 0.2)), os._exit, (0,)).start()

    def take(self, sock: socket.socket, update: control_pb2.Update) -> None:
        self.note(f"{'full' if update.full else 'difference'} {update.revision}")
        self.held = update.revision
        refused = [
            control_pb2.Refusal(resource=resource, reason=reason)
            for resource, reason in self.plan().get("refuse", {}).items()
        ]
        send(sock, pb.FromProxy(ack=pb.Ack(revision=update.revision, refusals=refused)))


def one_request() -> pb.Counts:
    """What is counted at each flush."""
    labels = {"response_code": "200", "reporter": "source"}
    return pb.Counts(
        series=[pb.Series(id=1, family="istio_requests_total", labels=labels)], samples=[pb.Sample(id=1, value=1)]
    )


def send(sock: socket.socket, message: pb.FromProxy) -> None:
    body = message.SerializeToString()
    sock.sendall(len(body).to_bytes(4, "big") + body)


def receive(sock: socket.socket) -> pb.ToProxy:
    return pb.ToProxy.FromString(exactly(sock, int.from_bytes(exactly(sock, 4), "big")))


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


if __name__ == "__main__":
    StandIn(arguments()).run()
