"""`weft local`: a cluster on this machine, from plain Kubernetes manifests, with no Kubernetes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from weft.daemon.cli import client
from weft.daemon.cli.failure import Failure

OK, NOT_OK = 0, 1
#: What `get` takes, as kubectl's users type it.
KINDS = {
    **dict.fromkeys(("pods", "pod", "po"), "pods"),
    **dict.fromkeys(("services", "service", "svc"), "services"),
    **dict.fromkeys(("nodes", "node", "no"), "nodes"),
    **dict.fromkeys(("workloads", "workload", "all"), "workloads"),
    **dict.fromkeys(
        ("deployments", "deployment", "deploy", "statefulsets", "statefulset", "sts", "job"), "workloads"
    ),
    **dict.fromkeys(
        ("daemonsets", "daemonset", "ds", "jobs", "job", "replicasets", "replicaset", "rs"), "workloads"
    ),
}


def register(commands: Any) -> None:
    parser = commands.add_parser("local", help="a cluster on this machine", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _register_up(actions)
    _register_files(actions)
    _register_pods(actions)
    _register_get(actions)
    for name, run, text in (
        ("status", status, "whether the cluster and all in it run"),
        ("down", down, "remove the cluster: processes, namespaces, programs, pins, files"),
    ):
        each = actions.add_parser(name, help=text, description=text)
        _run_dir(each)
        each.set_defaults(run=run)


def _run_dir(parser: argparse.ArgumentParser) -> None:
    client.add_options(parser, node=False, output=False)


def _namespace(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("-n", "--namespace", default="default", help=f"{text} (%(default)s)")


def _files(parser: argparse.ArgumentParser, text: str, *, required: bool) -> None:
    parser.add_argument(
        "-f", "--file", action="extend", nargs="+", default=[], required=required, metavar="PATH", help=text
    )
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="(%(default)g)")


def _register_up(actions: Any) -> None:
    parser = actions.add_parser(
        "up",
        help="start a cluster",
        description="Starts a cluster and returns when all pods are ready and policy is in force.",
    )
    _run_dir(parser)
    _files(parser, "a manifest, applied once; or a folder of them, which is followed", required=False)
    _namespace(parser, "of objects that name none")
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--image", action="append", default=[], metavar="IMAGE=CMD", help="what runs for an image; repeatable"
    )
    parser.add_argument(
        "--proxy-workers", type=int, default=1, metavar="N", help="of each node's L7 proxy; 0: none (%(default)s)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress lines")
    parser.set_defaults(run=up)


def _register_files(actions: Any) -> None:
    for name, run in (("apply", apply), ("delete", delete)):
        parser = actions.add_parser(name, help=f"{name} manifests", description=f"{name.capitalize()} manifests.")
        _run_dir(parser)
        _files(parser, "a manifest, a folder of them, or - for the standard input; repeatable", required=True)
        _namespace(parser, "of objects that name none")
        parser.add_argument("--no-wait", action="store_true", help="do not wait until it is in force")
        parser.set_defaults(run=run)


def _register_pods(actions: Any) -> None:
    parser = actions.add_parser(
        "exec",
        help="run a command in a pod",
        description="Runs a command in a pod. Its streams, terminal, signals and exit code are the command's own.",
    )
    parser.add_argument("pod", metavar="POD", help="a pod, or a workload: then its first; NS/POD is fine too")
    _exec_options(parser)
    parser.set_defaults(container="", stdin=False, tty=False, namespace="default", run_dir=client.default_run_dir())
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD...", help="the command and its arguments")
    parser.set_defaults(run=execute)
    parser = actions.add_parser("logs", help="what a pod wrote", description="Prints what a pod wrote.")
    _run_dir(parser)
    _namespace(parser, "of the pod")
    parser.add_argument("pod", metavar="POD", help="a pod, or a workload: then its first")
    parser.add_argument("-c", "--container", default="", help="(the first)")
    parser.add_argument("-f", "--follow", action="store_true", help="and what comes")
    parser.add_argument("-p", "--previous", action="store_true", help="of the run before the last restart")
    parser.add_argument("--tail", type=int, default=-1, metavar="LINES", help="only the last so many (all)")
    parser.set_defaults(run=logs)


def _exec_options(parser: argparse.ArgumentParser) -> None:
    """Without defaults, for they are read twice, before and after POD."""
    parser.add_argument("-n", "--namespace", default=argparse.SUPPRESS, help="of the pod (default)")
    parser.add_argument("--run-dir", default=argparse.SUPPRESS, help="where the sockets are")
    parser.add_argument("-c", "--container", default=argparse.SUPPRESS, help="(the first)")
    parser.add_argument(
        "-i", "--stdin", action="store_true", default=argparse.SUPPRESS, help="pass the standard input on"
    )
    parser.add_argument(
        "-t", "--tty", action="store_true", default=argparse.SUPPRESS, help="a terminal is passed on as it is"
    )


def _register_get(actions: Any) -> None:
    parser = actions.add_parser(
        "get", help="pods, services, workloads or nodes", description="Lists what is in the cluster."
    )
    parser.add_argument(
        "what", nargs="?", default="pods", choices=KINDS, metavar="KIND",
        help="pods, services, workloads (deployments, statefulsets, ...) or nodes (default: %(default)s)",
    )  # fmt: skip
    client.add_options(parser, node=False, output=False)
    parser.add_argument("-n", "--namespace", default="", help="only this one (default: all)")
    parser.add_argument(
        "-A", "--all-namespaces", dest="namespace", action="store_const", const="", help="as without -n"
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "wide", "json", "yaml"), default="table", help="(%(default)s)"
    )
    parser.set_defaults(run=get)


def _cluster(options: argparse.Namespace) -> Any:
    from weft.daemon.local.names import Cluster

    return Cluster(Path(os.path.abspath(options.run_dir)))


def _running(options: argparse.Namespace) -> Any:
    from weft.daemon.local import state

    cluster = _cluster(options)
    if not state.alive(cluster):
        raise Failure(f"no cluster runs under {cluster.run_dir}: start one with `weft local up`")
    return cluster


def say(text: str) -> None:
    print(text, flush=True)


def images(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        image, equals, command = word.partition("=")
        if not image or not equals or not command.strip():
            raise Failure(f"--image {word}: expected IMAGE=CMD", 2)
        found[image] = command
    return found


def up(options: argparse.Namespace) -> int:
    from weft.daemon.local import declare
    from weft.daemon.local.state import Config
    from weft.daemon.local.up import up as bring_up

    found = declare.given(options.file, follow=True)
    if not 0 <= options.proxy_workers <= 64:
        raise Failure(f"--proxy-workers {options.proxy_workers}: from 0 to 64", 2)
    config = Config(
        options.nodes, options.namespace, images(options.image), found.folders, os.getcwd(), options.proxy_workers
    )
    bring_up(_cluster(options), config, found, options.timeout, (lambda _: None) if options.quiet else say)
    return OK


def apply(options: argparse.Namespace) -> int:
    from weft.daemon.local import declare
    from weft.daemon.local.up import Waiting

    cluster = _running(options)
    found = declare.given(options.file, follow=False)
    declare.check(found.documents, options.namespace)
    waiting = Waiting(cluster, options.timeout, say)
    waiting.forget_what_is()
    reply = declare.apply(cluster, found.documents, options.namespace)
    for outcome in reply.outcomes:
        say(declare.outcome_line(outcome))
    if not options.no_wait:
        waiting.for_workloads([f"{o.ref.kind} {o.ref.namespace}/{o.ref.name}" for o in reply.outcomes])
        waiting.for_revision()
        waiting.tell()
    return OK


def delete(options: argparse.Namespace) -> int:
    from weft.daemon.local import declare
    from weft.daemon.local.up import Waiting

    cluster = _running(options)
    found = declare.given(options.file, follow=False)
    reply = declare.delete(cluster, found.documents, options.namespace)
    for outcome in reply.outcomes:
        say(declare.outcome_line(outcome))
    if not options.no_wait:
        Waiting(cluster, options.timeout, say).for_revision(reply.revision)
    return OK


def execute(options: argparse.Namespace) -> int:
    from weft.daemon.local.enter import execute as become

    # argparse's own remainder begins right behind POD: options that stand there are read now.
    at = options.argv.index("--") if "--" in options.argv else 0
    from weft.daemon.cli.main import Parser

    late = Parser(prog="weft local exec")
    _exec_options(late)
    _, unknown = late.parse_known_args(options.argv[:at], options)
    if unknown:
        late.error(f"what is {' '.join(unknown)}? The command stands behind --")
    command = options.argv[at + 1 :] if "--" in options.argv else options.argv
    if not command or command[0].startswith("-"):
        raise Failure("which command? weft local exec [OPTIONS] POD -- CMD...", 2)
    sys.stdout.flush()
    become(
        _running(options), options.namespace, options.pod, options.container, command, options.stdin or options.tty
    )
    raise AssertionError("the command took this process over")


def logs(options: argparse.Namespace) -> int:
    from weft.daemon.local import logs as files
    from weft.daemon.local import state
    from weft.daemon.local.enter import container_of, find_pod

    cluster = _cluster(options)
    pod = find_pod(state.read_state(cluster), options.namespace, options.pod)
    container = container_of(pod, options.container)
    key = f"{pod.namespace}/{pod.name}"
    path = cluster.pod_dir(pod.namespace, pod.name) / f"{container}{'.previous' if options.previous else ''}.log"
    if not path.exists():
        raise Failure(
            f"container {container} of {key} has written nothing{' before' if options.previous else ' yet'}"
        )

    def lives() -> bool:
        return state.alive(cluster) and key in state.read_state(cluster).pods

    if options.follow and options.previous:
        raise Failure("--follow and --previous do not go together: what was before does not grow", 2)
    start = files.last_lines(path, options.tail) if options.tail >= 0 else 0
    for data in files.follow(path, lives, start) if options.follow else files.read(path, start):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return OK


def get(options: argparse.Namespace) -> int:
    from weft.daemon.cli.table import columns, show
    from weft.daemon.local import listing

    cluster = _running(options)
    found = listing.LISTS[KINDS[options.what]](cluster, options.namespace, time.time())
    if options.output in ("json", "yaml"):
        show(found.value, options.output, (), ())
    else:
        wide = options.output == "wide"
        print(columns(found.header(wide), found.rows(wide)))
    return OK


def status(options: argparse.Namespace) -> int:
    from weft.daemon.local import listing, state

    cluster = _cluster(options)
    if not state.alive(cluster):
        print(f"Cluster {cluster.name}: does not run ({cluster.run_dir})")
        return NOT_OK
    lines, healthy = listing.status(cluster.name, state.read_state(cluster))
    print("\n".join(lines))
    return OK if healthy else NOT_OK


def down(options: argparse.Namespace) -> int:
    from weft.daemon.local import teardown

    if os.geteuid() != 0:
        raise Failure("removing a local cluster needs root")
    cluster = _cluster(options)
    try:
        removed = teardown.remove(cluster)
    except (OSError, LookupError, TimeoutError) as error:
        raise Failure(f"not all is gone: {error}; call it again") from None
    say(f"cluster {cluster.name}: " + (f"removed {', '.join(removed)}" if removed else "nothing was there"))
    return OK
