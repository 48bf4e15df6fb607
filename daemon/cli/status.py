"""`weft status`: one look that says whether the mesh works, and what was refused. Exit code 1 if it does not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from weft.daemon.cli import client
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
    try:
        nodes = client.query_all(options.run_dir, options.node, "status")
    except Failure:
        if operator is None:
            raise
        nodes = {}
    if options.output != "table":
        from weft.daemon.cli.table import show

        show({"operator": operator_json(operator), "nodes": nodes}, options.output, (), ())
    else:
        print("\n".join(lines(operator, nodes, options.verbose)))
    return 0 if healthy(operator, nodes) else 1


def operator_json(operator: control_pb2.StatusReply | None) -> Any:
    if operator is None:
        return None
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(operator, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def healthy(operator: control_pb2.StatusReply | None, nodes: dict[str, Any]) -> bool:
    errors = operator is not None and any(not problem.warning for problem in operator.problems)
    return bool(nodes) and not errors and all(node.get("ok", False) for node in nodes.values())


def lines(operator: control_pb2.StatusReply | None, nodes: dict[str, Any], verbose: bool) -> list[str]:
    out = operator_lines(operator)
    for name, node in nodes.items():
        out += ["", *node_lines(name or node.get("node", ""), node, verbose)]
    return out


def operator_lines(operator: control_pb2.StatusReply | None) -> list[str]:
    if operator is None:
        return ["Operator:        not on this machine"]
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(operator.counts.items()))
    connected = sum(1 for node in operator.nodes if node.connected)
    behind = [node.name for node in operator.nodes if node.acknowledged < operator.revision]
    out = [
        f"Operator:        Ok   {operator.version}, revision {operator.revision}",
        f"  Nodes:         {connected}/{len(operator.nodes)} connected"
        + (f", not yet at this revision: {', '.join(behind)}" if behind else ""),
        f"  Objects:       {counts or 'none'}",
    ]
    for node in operator.nodes:
        out += [f"  REFUSED by {node.name}: {refusal.resource}: {refusal.reason}" for refusal in node.refusals]
    return out + [problem_line(problem) for problem in operator.problems]


def problem_line(problem: control_pb2.Problem) -> str:
    file = f"{problem.file}:{problem.line}" if problem.file and problem.line else problem.file
    where = ": ".join(part for part in (file, problem.object, problem.path) if part)
    return f"  {'warning' if problem.warning else 'REFUSED'}: {where}: {problem.reason}"


def node_lines(name: str, node: dict[str, Any], verbose: bool) -> list[str]:
    """The fields are those of Query("status") in daemon/README; what a daemon does not send is not shown."""
    out = [f"Node {name}:".ljust(17) + ("Ok" if node.get("ok") else "NOT OK")]
    plain = (key for key in node if key not in {"ok", "node", "problems", "maps", "stats"})
    for key in plain:
        out.append(f"  {key.replace('_', ' ').capitalize()}:".ljust(25) + brief(node[key]))
    if verbose:
        for key in ("maps", "stats"):
            out += [f"  {key}:"] + [f"    {k}: {brief(v)}" for k, v in node.get(key, {}).items()]
    return out + [f"  PROBLEM: {brief(problem)}" for problem in node.get("problems", ())]


def brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {brief(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(brief(inner) for inner in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
