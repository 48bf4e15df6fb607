"""`weft`: finds the module of the command that was asked for, and turns known errors into one line."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from weft.daemon.cli.failure import Failure
from weft.policies.errors import Invalid

#: command -> (module that registers it, what `weft --help` says)
COMMANDS = {
    "status": ("status", "whether the mesh works: operator, nodes, refused policies, problems"),
    "observe": ("observe", "flows, with Hubble's filters and formats"),
    "monitor": ("monitor", "drops and events as they happen"),
    "list": ("observe", "nodes and namespaces, as the observer API knows them"),
    "policy": ("policy", "verdict, explain, list, get: what policy says and why"),
    "endpoint": ("endpoint", "workloads of a node and their enforcement"),
    "identity": ("identity", "identities and their labels"),
    "service": ("service", "services and their backends"),
    "bpf": ("bpf", "what the kernel holds: policy, ct, ipcache, lb"),
    "stat": ("stat", "success rate, requests per second and latency of workloads, services and splits"),
    "top": ("top", "requests as they happen, by source, destination, method and path"),
    "tap": ("tap", "requests as they happen, one by one"),
    "edges": ("edges", "who talks to whom"),
    "proxy": ("proxy", "the L7 proxy: workers, routes, clusters, endpoints, log"),
    "local": ("local", "a cluster on this machine, from plain Kubernetes manifests"),
    "version": ("version", "this build's version"),
}


class Parser(argparse.ArgumentParser):
    """Its errors are one line, and say where the rest is: the usage of `observe` alone fills a screen."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (`{self.prog} --help`)\n")

    def below(self, words: Sequence[str]) -> argparse.ArgumentParser:
        """The parser of the command that `words` get to."""
        at: argparse.ArgumentParser = self
        for word in words:
            below = [action.choices for action in at._actions if isinstance(action, argparse._SubParsersAction)]
            if below and word in below[0]:
                at = below[0][word]
        return at


def parser(only: str | None = None) -> Parser:
    """The command line. `only`: import the module of that command alone; the others show as names."""
    top = Parser(
        prog="weft", description="Weft, a service mesh without sidecars: policy, flows and state of a node."
    )
    top.add_argument("--version", action="store_true", help="this build's version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    done: set[str] = set()
    for name, (module, help_text) in COMMANDS.items():
        if only is not None and module != COMMANDS.get(only, (None,))[0]:
            commands.add_parser(name, help=help_text, add_help=False)
        elif module not in done:
            done.add(module)
            importlib.import_module(f"weft.daemon.cli.{module}").register(commands)
    return top


def asked_for(arguments: Sequence[str]) -> str | None:
    words = [word for word in arguments if not word.startswith("-")]
    return words[0] if words and words[0] in COMMANDS else ""


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    words = ["version"] if words[:1] == ["--version"] else words
    try:
        top = parser(asked_for(words))
        options, unknown = top.parse_known_args(words)
        if unknown:
            top.below(words).error(f"what is {shlex.join(unknown)}?")
        return int(options.run(options) or 0)
    except Invalid as refused:
        print(f"weft: {refused}", file=sys.stderr)
        return 2
    except Failure as failure:
        print(f"weft: {failure}", file=sys.stderr)
        return failure.code
    except BrokenPipeError:  # `weft observe | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
