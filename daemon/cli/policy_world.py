"""Where `weft policy` gets its cluster from: manifests (`-f`), or the snapshot of a node on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.daemon.cli import client
from weft.daemon.cli.failure import Failure
from weft.policies import offline
from weft.policies.errors import Invalid
from weft.policies.model import Policy
from weft.policies.world import Surroundings, World
from weft.policies.yamldoc import Document, documents

SUFFIXES = (".yaml", ".yml", ".json")
#: Where every node answers for names (daemon/dns); spelled out, for importing it costs a DNS library.
DNS = ("10.96.0.10", "fd00:10:96::a")


def add_source(parser: argparse.ArgumentParser, *, required: bool = False, several: bool = True) -> None:
    """`several`: one -f takes several paths; not where a positional argument may follow them."""
    parser.add_argument(
        "-f",
        "--file",
        action="extend",
        nargs="+" if several else 1,
        default=[],
        required=required,
        metavar="PATH",
        help="a manifest, a folder of them, or - for standard input; may be given again"
        + ("" if required else " (default: what a daemon on this machine holds)"),
    )
    parser.add_argument("-n", "--namespace", default="default", help="of objects that name none (default: default)")
    parser.add_argument(
        "--keep-going", action="store_true", help="a refused object is told on stderr, the others still count"
    )
    if not required:
        client.add_options(parser, output=False)


@dataclass(frozen=True, slots=True)
class Source:
    """`policies` as declared, for their warnings; empty for a node's snapshot, which holds them resolved."""

    world: World
    policies: tuple[Policy, ...] = ()
    refused: tuple[Invalid, ...] = ()
    problems: tuple[str, ...] = ()


def load(options: argparse.Namespace) -> Source:
    """Raises Failure with code 2 where something is refused, unless `--keep-going`."""
    source = from_files(options) if options.file else Source(from_node(options))
    for error in source.refused:
        print(f"weft: {error}", file=sys.stderr)
    if source.refused and not options.keep_going:
        count = len(source.refused)
        raise Failure(f"{count} object{'s' if count > 1 else ''} refused, so nothing is judged (--keep-going)", 2)
    for problem in source.problems:
        print(f"weft: {problem}", file=sys.stderr)
    return source


def from_files(options: argparse.Namespace) -> Source:
    found: list[Document] = []
    refused: list[Invalid] = []
    for name, text in texts(options.file):
        try:
            found += documents(text, name)
        except Invalid as error:
            refused.append(error)
    declared = offline.read(found, options.namespace)
    world, problems = offline.build(declared, DNS)
    described = tuple(f"{ref}: {reason}" for ref, reason in sorted(problems.items()))
    return Source(world, declared.policies, (*refused, *declared.refused), described)


def texts(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(name, content) of every manifest; Failure for what cannot be read."""
    for given in paths:
        if given == "-":
            yield "<stdin>", sys.stdin.read()
            continue
        for path in _manifests(Path(given)):
            try:
                yield str(path), path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                raise Failure(f"{path}: {reason}", 2) from None


def _manifests(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    return [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]


def from_node(options: argparse.Namespace) -> World:
    """The cluster as one of the daemons here holds it; every node holds the same cluster part."""
    from weft.policies.delta import apply_cluster
    from weft.policies.snapshot import ClusterPart
    from weft.policies.wire import convert
    from weft.policies.wire.pb import control_pb2, node_pb2

    sockets = client.daemons(options.run_dir, options.node)
    socket = sockets[min(sockets)]
    reply: Any = client.call(socket, "node", "GetSnapshot", node_pb2.SnapshotRequest())
    update = convert.from_update(control_pb2.Update.FromString(reply.update))
    return World(apply_cluster(ClusterPart(), update.cluster), Surroundings(dns=DNS))
