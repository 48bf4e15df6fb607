"""What the user gives with -f: files read and checked before anything is touched, then put into the store.

A folder is not applied: the operator follows it. A file is applied once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from weft.daemon.cli import client
from weft.daemon.cli.failure import Failure
from weft.daemon.local.environment import Facts, NotYet
from weft.daemon.local.manifests import read_pod
from weft.daemon.local.names import Cluster
from weft.policies import workloads
from weft.policies.dialects import registry
from weft.policies.errors import Invalid
from weft.policies.wire.pb import control_pb2, control_pb2_grpc
from weft.policies.yamldoc import Document, documents

SUFFIXES = (".yaml", ".yml", ".json")
TIMEOUT = 30.0
OPTIONS = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Given:
    """`folders` are absolute."""

    documents: tuple[Document, ...]
    folders: tuple[str, ...]


def given(paths: Sequence[str], *, follow: bool) -> Given:
    """`follow`: folders are for the operator; else they are read once, like files. `-` is the standard input."""
    found: list[Document] = []
    folders = []
    for path in map(Path, paths):
        if path.is_dir() and follow:
            folders.append(str(path.resolve()))
        elif path.is_dir():
            found += [each for file in sorted(path.iterdir()) if file.suffix in SUFFIXES for each in read(file)]
        else:
            found += read(path)
    if paths and not found and not folders:
        raise Failure(f"{', '.join(paths)}: no object in it", 2)
    return Given(tuple(found), tuple(folders))


def read(path: Path) -> list[Document]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: {error.strerror if isinstance(error, OSError) else 'is not text'}", 2) from None
    return documents(text, "stdin" if str(path) == "-" else str(path))


def check(found: Iterable[Document], namespace: str) -> None:
    """All that is wrong in them, at once: Failure with a line for each."""
    wrong = []
    for document in found:
        try:
            registry.parse(document, namespace)
            for manifest in workloads.pods(document, namespace, ("node",))[:1]:  # they differ by name only
                read_pod(manifest, {}, Facts(sources=lambda _kind, _name: {}))
        except NotYet:
            pass  # nobody says that all is in one file
        except Invalid as error:
            wrong.append(str(error))
    if wrong:
        raise Failure("nothing was changed:\n  " + "\n  ".join(wrong), 2)


def stub(channel: grpc.Channel) -> Any:
    made: Any = control_pb2_grpc.ObjectsStub
    return made(channel)


def channel(cluster: Cluster) -> grpc.Channel:
    if not client.may_use(cluster.operator_socket):
        raise Failure(f"{cluster.operator_socket} is not yours to use: run it as root")
    return grpc.insecure_channel(f"unix:{cluster.operator_socket}", options=OPTIONS)


def apply(cluster: Cluster, found: Sequence[Document], namespace: str) -> control_pb2.ApplyReply:
    """Failure if the operator refuses one of them, or is not there."""
    request = control_pb2.ApplyRequest(
        documents=[control_pb2.Document(json=json.dumps(d.value), file=d.file, line=d.line) for d in found],
        default_namespace=namespace,
    )
    with channel(cluster) as to_operator:
        reply = _call(stub(to_operator).Apply, request)
    if refused := [outcome.error for outcome in reply.outcomes if outcome.what == "refused"]:
        raise Failure("refused:\n  " + "\n  ".join(refused))
    answer: control_pb2.ApplyReply = reply
    return answer


def delete(cluster: Cluster, found: Sequence[Document], namespace: str) -> control_pb2.DeleteReply:
    """In the reverse order of the files."""
    refs = [registry.ref_of(document, namespace) for document in reversed(found)]
    request = control_pb2.DeleteRequest(
        refs=[control_pb2.ObjectRef(kind=r.kind, namespace=r.namespace, name=r.name) for r in refs]
    )
    with channel(cluster) as to_operator:
        reply: control_pb2.DeleteReply = _call(stub(to_operator).Delete, request)
    return reply


def stored(cluster: Cluster, kinds: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The objects in the store, as it is now."""
    with channel(cluster) as to_operator:
        try:
            request = control_pb2.WatchRequest(kinds=kinds)
            for event in stub(to_operator).Watch(request, timeout=TIMEOUT, wait_for_ready=True):
                if event.type == "synced":
                    return
                yield json.loads(event.json)
        except grpc.RpcError as error:
            raise Failure(f"the operator does not answer: {error.details()}") from None


def _call(method: Any, request: Any) -> Any:
    try:
        return method(request, timeout=TIMEOUT, wait_for_ready=True)
    except grpc.RpcError as error:
        raise Failure(f"the operator does not answer: {error.details()}") from None


def outcome_line(outcome: control_pb2.Outcome) -> str:
    ref = outcome.ref
    name = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
    return "\n".join([f"{ref.kind} {name} {outcome.what}", *(f"  warning: {w}" for w in outcome.warnings)])
