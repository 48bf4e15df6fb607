"""`weft policy`: what policy says of a flow and why, offline from manifests or as a node here holds it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from weft.daemon.cli import policy_show
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.policy_world import add_source, from_files, load
from weft.policies.asked import BadQuestion, answer_json, answer_line, question
from weft.policies.explain import explain
from weft.policies.model import ObjectRef
from weft.policies.snapshot import PolicyItem
from weft.policies.table import MAX_ENTRIES, WARN_ENTRIES, TableOverflow
from weft.policies.verdict import Judge
from weft.policies.world import Party, Unknown

VERDICT_HELP = """\
Says whether policy allows a flow, and by which rules. A flow from A to B passes A's egress and B's ingress; both
must allow it. The answer is what policy says, whatever this node can carry: where L7 rules apply it is
"redirected", whether or not a proxy runs.

Exit code: 0 once it is judged, whatever the verdict (with --check: 0 ALLOWED, 1 DENIED); 1 if a line of a batch was
bad; 2 if a manifest is refused or the question is wrong."""
EPILOG = """\
A batch is JSON lines: {"id":1,"from":"default/a","to":"default/b","port":80,"protocol":"TCP",
"http":{"method":"GET","path":"/","host":"b","headers":{"x-token":"1"}}}; each gets one line of JSON in answer,
{"id":1,"verdict":"ALLOWED",...}, a bad one {"id":1,"error":"..."}."""


def register(commands: Any) -> None:
    parser = commands.add_parser("policy", help="what policy says and why", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _verdict_parser(actions)
    about = "what may reach a workload, what it may reach, and by which rules"
    one = _parser(actions, "explain", explain_pod, about)
    one.add_argument("pod", metavar="NS/POD")
    _parser(actions, "list", list_policies, "the policies in force")
    get = _parser(actions, "get", get_policy, "one policy: whom it selects, and its rules resolved")
    get.add_argument("policy", metavar="[KIND/]NS/NAME", help="of a cluster-wide policy: NAME")
    validate = actions.add_parser("validate", help="check manifests", description="Checks manifests.")
    add_source(validate, required=True)
    validate.set_defaults(run=validate_files)


def _parser(actions: Any, name: str, run: Any, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about, description=f"Shows {about}.")
    add_source(parser, several=name == "list")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)
    return parser


def _verdict_parser(actions: Any) -> None:
    parser = actions.add_parser(
        "verdict",
        help="whether a flow is allowed, and by which rules",
        description=VERDICT_HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_source(parser)
    about = "a pod, or a workload such as a Deployment (its first pod), or an address"
    parser.add_argument("--from", dest="source", metavar="NS/POD|IP", help=about)
    about = "likewise; a Service, unless a pod has its name: svc/NS/NAME is the Service in any case"
    parser.add_argument("--to", metavar="NS/POD|NS/SERVICE|IP", help=about)
    parser.add_argument("--port", help="the destination's, of a Service its own; the type for ICMP")
    parser.add_argument("--protocol", default="TCP", help="TCP, UDP, SCTP, ICMPv4 or ICMPv6 (default: %(default)s)")
    http = parser.add_argument_group("an HTTP request on the flow")
    http.add_argument("--method")
    http.add_argument("--path", help="with its query")
    http.add_argument("--host")
    http.add_argument("--header", action="append", default=[], metavar="'K: V'")
    parser.add_argument("--batch", metavar="FILE|-", help="judge JSON lines instead")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the verdict is DENIED")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=verdict)


# verdict


def verdict(options: argparse.Namespace) -> int:
    if options.batch and (options.source or options.to):
        raise Failure("--batch brings its own --from and --to", 2)
    if options.batch == "-" and "-" in options.file:
        raise Failure("standard input is either manifests (-f -) or questions (--batch -)", 2)
    return _batch(options) if options.batch else _single(options)


def _single(options: argparse.Namespace) -> int:
    try:
        asked = question(_fields(options))
        answer = Judge(load(options).world).judge(asked.source, asked.to, asked.protocol, asked.port, asked.request)
    except (BadQuestion, Unknown) as error:
        raise Failure(str(error), 2) from None
    except TableOverflow as error:
        raise Failure(str(error), 2) from None
    if options.output == "json":
        print(json.dumps(answer_json(answer), indent=2))
    else:
        print("\n".join(policy_show.answer(answer)))
    return int(options.check and not answer.allowed)


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    """The flags as the fields of a question."""
    fields = {"from": options.source, "to": options.to, "port": options.port, "protocol": options.protocol}
    http = {"method": options.method, "path": options.path, "host": options.host}
    http = {name: value for name, value in http.items() if value is not None}
    headers: dict[str, list[str]] = {}
    for header in options.header:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise BadQuestion(f"--header {header!r}: must be 'Name: value'")
        headers.setdefault(name.strip(), []).append(value.strip())
    if http or headers:
        fields["http"] = {**http, "headers": headers}
    missing = [flag for flag, value in (("--from", options.source), ("--to", options.to)) if not value]
    if missing:
        raise BadQuestion(f"{' and '.join(missing)} missing (or --batch)")
    return {name: value for name, value in fields.items() if value is not None}


def _batch(options: argparse.Namespace) -> int:
    judge = Judge(load(options).world)
    good = True
    with _opened(options.batch) as lines:
        for line in lines:
            if line.strip():
                answer, fine = answer_line(judge, line)
                good &= fine
                print(
                    json.dumps(answer, separators=(",", ":")), flush=True
                )  # whoever asks line by line waits for it
    return 0 if good else 1


@contextmanager
def _opened(path: str) -> Iterator[Iterable[str]]:
    if path == "-":
        yield sys.stdin
        return
    try:
        file: TextIO = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", 2) from None
    with file:
        yield file


# explain, list, get, validate


def explain_pod(options: argparse.Namespace) -> int:
    world = load(options).world
    try:
        party = world.find_source(options.pod)
    except Unknown as error:
        raise Failure(str(error), 2) from None
    if not isinstance(party, Party) or party.endpoint is None:
        raise Failure(f"{options.pod} is no workload: no policy is judged there", 2)
    found = explain(world, party.endpoint)
    if options.output == "json":
        print(json.dumps(policy_show.explanation_json(found), indent=2))
    else:
        print("\n".join(policy_show.explanation(found)))
    return 0


def list_policies(options: argparse.Namespace) -> int:
    world = load(options).world
    items = [world.part.policies[ref] for ref in sorted(world.part.policies)]
    if options.output == "json":
        print(json.dumps([policy_show.policy_json(item, world) for item in items], indent=2))
    else:
        print(policy_show.policies_table(items, world))
    return 0


def get_policy(options: argparse.Namespace) -> int:
    world = load(options).world
    item = _named(world.part.policies.values(), options.policy)
    if options.output == "json":
        print(json.dumps(policy_show.policy_json(item, world), indent=2))
    else:
        print("\n".join(policy_show.policy(item, world)))
    return 0


def _named(items: Iterable[PolicyItem], name: str) -> PolicyItem:
    def names(ref: ObjectRef) -> set[str]:
        short = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        return {short, f"{ref.kind}/{short}"}

    found = [item for item in items if name in names(item.ref)]
    if not found:
        raise Failure(f"there is no policy {name}")
    if len(found) > 1:
        kinds = ", ".join(sorted(item.ref.kind for item in found))
        raise Failure(f"{name} is several policies ({kinds}): say KIND/{name}", 2)
    return found[0]


def validate_files(options: argparse.Namespace) -> int:
    source = from_files(options)
    refused = [str(error) for error in source.refused]
    warnings = [f"{policy.ref}: {warning}" for policy in source.policies for warning in policy.warnings]
    warnings += source.problems
    for key, endpoint in source.world.endpoints.items():
        try:
            size = len(source.world.table(endpoint).entries)
        except TableOverflow as error:
            refused.append(f"{key}: {error}")
        else:
            if size > WARN_ENTRIES:
                warnings.append(f"{key}: policy compiles to {size} entries, the map holds {MAX_ENTRIES}")
    for line in refused:
        print(f"refused: {line}")
    for line in warnings:
        print(f"warning: {line}")
    print(f"{len(source.policies)} policies and {len(source.world.endpoints)} workloads read")
    return 2 if refused else 0
