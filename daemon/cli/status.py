"""`weft status`: one look that says whether the mesh works, and what was refused.

Exit code 0: all is well (warnings are). 1: something is refused, a problem, or not connected, or nobody answers.
2: wrong arguments. So it serves as a probe.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from weft.daemon.cli import client, node_status
from weft.daemon.cli.failure import Failure

if TYPE_CHECKING:
    from weft.policies.wire.pb import control_pb2


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "status", help="whether the mesh works: operator, nodes, refused policies, problems", description=__doc__
    )
    client.add_options(parser)
    parser.add_argument("--verbose", action="store_true", help="also map fill levels and counters")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    operator = client.operator_status(options.run_dir)
    nodes, why = {}, ""
    try:
        nodes = client.query_all(options.run_dir, options.node, "status")
    except Failure as failure:
        if operator is None:
            raise
        why = str(failure)
    if options.output != "table":
        from weft.daemon.cli.table import show

        show({"operator": operator_json(operator), "nodes": nodes}, options.output, (), ())
    else:
        from weft.daemon.cli.printer import harmless

        print("\n".join(map(harmless, lines(operator, nodes, options.verbose, why))))
    return 0 if healthy(operator, nodes) else 1


def operator_json(operator: control_pb2.StatusReply | None) -> Any:
    if operator is None:
        return None
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(operator, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def healthy(operator: control_pb2.StatusReply | None, nodes: dict[str, Any]) -> bool:
    return bool(nodes) and not troubles(operator) and all(map(node_status.healthy, nodes.values()))


def troubles(operator: control_pb2.StatusReply | None) -> list[str]:
    """What the operator knows to be wrong."""
    if operator is None:
        return []
    out = [problem_line(problem) for problem in operator.problems if not problem.warning]
    out += [f"REFUSED by {n.name}: {each.resource}: {each.reason}" for n in operator.nodes for each in n.refusals]
    return out + [f"PROBLEM: node {node.name} is not connected" for node in operator.nodes if not node.connected]


def lines(
    operator: control_pb2.StatusReply | None, nodes: dict[str, Any], verbose: bool, why: str = ""
) -> list[str]:
    out = operator_lines(operator)
    for name, node in nodes.items():
        out += ["", *node_status.lines(name or node.get("node", ""), node, verbose)]
    if not nodes:
        out += ["", f"PROBLEM: {why}"]
    return out


def operator_lines(operator: control_pb2.StatusReply | None) -> list[str]:
    if operator is None:
        return ["Operator:        not on this machine"]
    wrong = troubles(operator)
    warnings = [problem_line(problem) for problem in operator.problems if problem.warning]
    connected = sum(1 for node in operator.nodes if node.connected)
    behind = [node.name for node in operator.nodes if node.acknowledged < operator.revision]
    counts = [f"{kind} {number}" for kind, number in sorted(operator.counts.items())]
    return [
        f"Operator:        {'NOT OK' if wrong else 'OK'}   {operator.version}, revision {operator.revision}",
        *(f"  {text}" for text in wrong + warnings),
        f"  Nodes:         {connected}/{len(operator.nodes)} connected"
        + (f", not yet at this revision: {', '.join(behind)}" if behind else ""),
        *wrapped("  Objects:       ", counts or ["none"]),
    ]


def wrapped(title: str, words: list[str]) -> list[str]:
    """Comma-separated, over several lines, none of them longer than a terminal."""
    together = ", ".join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)
    text = [line.replace("\N{NO-BREAK SPACE}", " ") for line in textwrap.wrap(together, 110 - len(title))]
    return [title + text[0], *(" " * len(title) + line for line in text[1:])]


def problem_line(problem: control_pb2.Problem) -> str:
    file = f"{problem.file}:{problem.line}" if problem.file and problem.line else problem.file
    where = ": ".join(part for part in (file, problem.object, problem.path) if part)
    return f"{'warning' if problem.warning else 'REFUSED'}: {where}: {problem.reason}"
