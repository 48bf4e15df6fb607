"""A node's part of `weft status`: what is wrong first, then a line for each thing that has something to say.

In: Query("status") as daemon/README has it. A key that a daemon does not send is left out, for it may be older or
younger than the command.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from weft.daemon.cli import flow_status
from weft.daemon.cli.table import columns
from weft.daemon.cli.units import count, size, span

WIDTH = 17


def healthy(node: Mapping[str, Any]) -> bool:
    return bool(node.get("ok")) and not node.get("refused")


def lines(name: str, node: Mapping[str, Any], verbose: bool, now: float | None = None) -> list[str]:
    about = [str(node.get("version", ""))]
    about += [f"up {span(node['uptime_seconds'])}"] if "uptime_seconds" in node else []
    head = f"Node {name}:".ljust(WIDTH) + ("OK" if healthy(node) else "NOT OK")
    out = [f"{head}   {', '.join(filter(None, about))}".rstrip()]
    out += [f"  {text}" for text in complaints(node)]
    out += [
        f"  {title}:".ljust(WIDTH) + text
        for title, text in facts(node, time.time() if now is None else now)
        if text
    ]
    if verbose:
        out += ["  " + line for line in columns(("MAP or counter", "entries"), details(node)).split("\n")[1:]]
    return out


def complaints(node: Mapping[str, Any]) -> Iterator[str]:
    for problem in node.get("problems", ()):
        yield f"PROBLEM: {problem}"
    for refusal in node.get("refused", ()):
        yield f"REFUSED: {refusal['resource']}: {refusal['reason']}"
    for warning in node.get("warnings", ()):
        yield f"warning: {warning}"


def facts(node: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    yield "Operator", operator(node.get("operator", {}), now)
    yield "Revision", revision(node.get("revision", {}))
    yield "Endpoints", endpoints(node.get("endpoints", {}))
    words = (("policies", "policy"), ("identities", "identity"), ("services", "service"))
    yield "In force", ", ".join(count(node[many], one, many) for many, one in words if many in node)
    yield "Programs", programs(node.get("programs", {}), node.get("kernel", {}))
    yield "Proxy", proxy(node.get("proxy", {}))
    yield "Connections", connections(node.get("conntrack", {}))
    yield "Flows", flow_status.line(node["flows"]) if "flows" in node else ""
    yield "DNS", ", ".join(node.get("dns", ()))
    yield "Pod start", str(node.get("pod_start", ""))
    yield "Snapshot file", snapshot_file(node.get("snapshot_file", {}))
    memory = node.get("memory", {})
    yield "Memory", f"{size(memory['anonymous'])} anonymous, {size(memory['resident'])} resident" if memory else ""


def operator(value: Mapping[str, Any] | str, now: float) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if not value:
        return ""
    text = "connected" if value.get("connected") else "NOT CONNECTED: the last snapshot stays in force"
    if value.get("since"):
        text += f" for {span(now - value['since'])}"
    if value.get("reconnects"):
        text += f", {count(value['reconnects'], 'reconnect')}"
    return text + (f"; {value['problem']}" if value.get("problem") else "")


def revision(value: Mapping[str, Any]) -> str:
    if not value:
        return ""
    behind = value.get("held", 0) != value.get("in_force", 0)
    return f"{value.get('in_force', 0)} in force" + (
        f", {value['held']} held and not yet in force" if behind else ""
    )


def endpoints(value: Mapping[str, int]) -> str:
    if not value:
        return ""
    states = ", ".join(
        f"{number} {state}" for state, number in sorted(value.items()) if state != "total" and number
    )
    return states or "none"


def programs(value: Mapping[str, Any], kernel: Mapping[str, Any]) -> str:
    parts = [f"on {count(value['attached'], 'workload')} ({value.get('mode', '')})"] if value else []
    parts += [f"kernel {kernel['release']}"] if kernel else []
    if missing := kernel.get("missing"):
        parts.append(f"which LACKS {', '.join(missing)}")
    return ", ".join(parts)


def proxy(value: Mapping[str, Any]) -> str:
    """`1 of 1 worker serving (pid 4711, generation 2, revision 7)`, and what is not as it should be."""
    if not value:
        return ""
    if not value.get("wanted") and not value.get("workers"):
        return "none on this node"
    serving = [row for row in value.get("workers", ()) if row.get("state") == "serving"]
    parts = [f"{value.get('serving', 0)} of {count(value.get('wanted', 0), 'worker')} serving"]
    parts += [f"pid {row['pid']}, generation {row['generation']}, revision {row['revision']}" for row in serving]
    restarts = sum({row["worker"]: row.get("restarts", 0) for row in value.get("workers", ())}.values())
    lost = sum(row.get("records_lost", 0) for row in value.get("workers", ()))
    draining = sum(1 for row in value.get("workers", ()) if row.get("state") == "draining")
    parts += [f"{draining} draining"] if draining else []
    parts += [count(restarts, "restart")] if restarts else []
    parts += [f"{count(len(value['refused']), 'resource')} REFUSED"] if value.get("refused") else []
    parts += [f"{count(lost, 'record')} LOST"] if lost else []
    parts += ["steering OFF"] if serving and value.get("steering") != "on" else []
    return "; ".join(parts)


def connections(value: Mapping[str, int]) -> str:
    if not value:
        return ""
    evicted = f", {value['evicted']:,} EVICTED by newer ones" if value.get("evicted") else ""
    return f"{value.get('entries', 0):,} now, {value.get('expired', 0):,} expired{evicted}"


def snapshot_file(value: Mapping[str, Any]) -> str:
    """Silent while all is well."""
    bad = [text for text in (value.get("problem"), value.get("found")) if text]
    if value.get("failed"):
        bad.append(f"{value['failed']} writes FAILED")
    return "; ".join(bad)


def details(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, row in sorted(node.get("maps", {}).items()):
        full = "  NEARLY FULL" if row.get("warning") else ""
        yield f"map {name}", f"{row['entries']:,} of {row['max_entries']:,} ({row['pressure']:.1%}){full}"
    for name, number in sorted(node.get("stats", {}).items()):
        yield f"counter {name}", f"{number:,}"
