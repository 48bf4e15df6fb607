"""`weft proxy`: what workers answer, as tables; and the proxy's line in `weft status`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from weft.daemon.cli import client, node_status, proxy, proxy_rows
from weft.daemon.cli.failure import Failure
from weft.daemon.cli.main import main
from weft.policies.mesh import model as mesh
from weft.policies.model import ObjectRef

ORDERS = "orders.default.svc.cluster.local"
ORIGIN = mesh.Origin("VirtualService", "default", "orders", "spec.http[0]")


def rule(**fields: Any) -> mesh.Rule:
    defaults: dict[str, Any] = {"origin": ORIGIN, "destinations": (mesh.Destination(ORDERS),)}
    return mesh.Rule(**{**defaults, **fields})


def row_of(rule: mesh.Rule) -> tuple[str, ...]:
    """As it comes from a worker: through msgspec, defaults left out."""
    ref = ObjectRef("VirtualService", "default", "orders")
    route = msgspec.to_builtins(mesh.Route(ref, mesh.Dialect.ISTIO, (ORDERS,), http=(rule,)))
    (row,) = proxy_rows.routes({"host": ORDERS, "routes": [route]})
    return row


EXACT, PREFIX = mesh.How.EXACT, mesh.How.PREFIX


@pytest.mark.parametrize(
    ("match", "said"),
    [
        (mesh.RequestMatch(path=mesh.Matcher(PREFIX, "/api")), "path prefix /api"),
        (mesh.RequestMatch(method=mesh.Matcher(EXACT, "GET")), "method GET"),
        (mesh.RequestMatch(headers=(mesh.Named("x-canary", mesh.Matcher(EXACT, "true")),)), "header x-canary true"),
        (
            mesh.RequestMatch(headers=(mesh.Named("x-a", mesh.Matcher(EXACT, "b", invert=True)),), port=80),
            "header x-a not b, port 80",
        ),
        (
            mesh.RequestMatch(source_namespace="shop", source_labels=(("app", "web"),)),
            "from namespace shop, from app=web",
        ),
        (mesh.RequestMatch(), "any request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_match_reads_as_one_would_say_it(match: mesh.RequestMatch, said: str) -> None:
    assert row_of(rule(matches=(match,)))[1] == said


@pytest.mark.parametrize(
    ("fields", "action", "more"),
    [
        ({}, ORDERS, "-"),
        (
            {
                "destinations": (
                    mesh.Destination(ORDERS, 80, "v1", weight=90),
                    mesh.Destination(ORDERS, 80, "v2", weight=10),
                )
            },
            f"90% {ORDERS}:80 subset v1\n10% {ORDERS}:80 subset v2",
            "-",
        ),
        ({"destinations": (mesh.Destination(ORDERS, subset="v3", refused="no such subset"),)},
         f"{ORDERS} subset v3 REFUSED: no such subset", "-"),
        ({"redirect": mesh.Redirect(host="a.example", path="/new", status=302)}, "redirect 302 a.example/new", "-"),
        ({"direct": mesh.DirectResponse(503)}, "answer 503", "-"),
        (
            {
                "timeout": 10.0,
                "retries": mesh.Retries(attempts=3, on=("5xx",)),
                "fault": mesh.Fault(delay=2.0, delay_percent=10.0, abort_status=503, abort_percent=0.5),
                "mirrors": (mesh.Mirror(mesh.Destination(ORDERS, subset="v2"), 5.0),),
            },
            ORDERS,
            f"timeout 10s\nretries 3 on 5xx\ndelay 2s for 10%\nabort 503 for 0.5%\nmirror 5% to {ORDERS} subset v2",
        ),
    ],
    ids=["a destination", "weights", "a refused one", "redirect", "direct response", "resilience"],
)  # fmt: skip
def test_what_a_rule_does(fields: dict[str, Any], action: str, more: str) -> None:
    row = row_of(rule(**fields))
    assert (row[0], row[2], row[3]) == (ORDERS, action, more)
    assert row[4] == "VirtualService default/orders spec.http[0]"


@pytest.mark.parametrize(
    ("wanted", "item", "found"),
    [
        ("", {"host": ORDERS}, True),
        (ORDERS, {"host": ORDERS}, True),
        ("orders", {"host": ORDERS}, True),
        ("default/orders", {"host": ORDERS}, True),
        ("shop/orders", {"host": ORDERS}, False),
        ("order", {"host": ORDERS}, False),
        ("orders", {"cluster": f"outbound|80|v1|{ORDERS}", "address": "10.0.0.1:80"}, True),
        ("10.0.0.1:80", {"cluster": f"outbound|80|v1|{ORDERS}", "address": "10.0.0.1:80"}, True),
        ("10.1.1.1", {"source": ["10.1.1.1", 4000], "destination": ["10.2.2.2", 80]}, True),
        ("10.2.2.2:80", {"source": ["10.1.1.1", 4000], "destination": ["10.2.2.2", 80]}, True),
        ("10.2.2.2:81", {"source": ["10.1.1.1", 4000], "destination": ["10.2.2.2", 80]}, False),
    ],
)
def test_what_people_type_and_mean(wanted: str, item: dict[str, Any], found: bool) -> None:
    assert proxy_rows.means(wanted, item) is found


def test_connections_say_where_they_lead() -> None:
    item = {"protocol": "tcp", "source": ["fd00::1", 4000], "destination": ["10.2.2.2", 80], "upstream": None,
            "seconds": 12.4}  # fmt: skip
    assert [*proxy_rows.connections(item)] == [("tcp", "[fd00::1]:4000", "10.2.2.2:80", "-", "12s")]


# the command


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One node whose daemon answers by question."""
    answers: dict[str, Any] = {}

    def query(socket: Path, what: str, arg: str = "", timeout: float = 5.0) -> Any:
        return answers[f"{what} {arg}".strip()]

    monkeypatch.setattr(client, "daemons", lambda run_dir, node="": {"node-1": Path("/run/x/node-1/daemon.sock")})
    monkeypatch.setattr(client, "query", query)
    return answers


WORKER = {
    "worker": 0, "pid": 4711, "generation": 2, "state": "serving", "revision": 7, "refusals": 0, "records_lost": 0,
    "uptime_seconds": 90, "restarts": 1, "problem": "",
    "status": {"connections": 5, "memory": {"anonymous": 1 << 20}},
}  # fmt: skip
PROXY = {"wanted": 1, "serving": 1, "workers": [WORKER], "refused": [], "steering": "on"}


def test_status_is_a_probe(node: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    node["status"] = {"node": "node-1", "proxy": PROXY}
    assert main(["proxy", "status"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("4711", "serving", "1m30s", "1.0 MiB"))
    node["status"]["proxy"] = {**PROXY, "serving": 0, "workers": [{"worker": 0, "state": "down", "problem": "no"}]}
    assert main(["proxy", "status"]) == 1


def test_workers_of_one_node_are_shown_together(node: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    node["proxy connections"] = [
        {"worker": n, "answer": [{"source": [f"10.0.0.{n}", 1], "destination": ["10.2.2.2", 80]}]} for n in (0, 1)
    ]
    assert main(["proxy", "connections", "-o", "json"]) == 0
    assert [each["worker"] for each in json.loads(capsys.readouterr().out)["node-1"]] == [0, 1]
    assert main(["proxy", "connections", "10.0.0.1"]) == 0
    assert "10.0.0.0" not in capsys.readouterr().out


def test_an_answer_that_is_none_is_one_line(node: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    node["proxy routes"] = [{"worker": 0, "error": "the worker did not answer within 4 s"}]
    assert main(["proxy", "routes"]) == 1
    assert capsys.readouterr().err == "weft: node-1: worker 0: the worker did not answer within 4 s\n"
    node["proxy routes"] = [{"worker": 0, "answer": []}]
    assert main(["proxy", "routes", "orders"]) == 1
    assert "no routes of orders" in capsys.readouterr().err


def test_a_restart_that_fails_is_told_by_the_exit_code(
    node: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    node["status"] = {"node": "node-1", "proxy": PROXY}
    node["proxy restart"] = [{"worker": 0, "old_pid": 1, "pid": 2, "error": ""}]
    assert main(["proxy", "restart"]) == 0
    node["proxy restart"] = [{"worker": 0, "old_pid": 1, "pid": 1, "error": "the successor ended with exit code 3"}]
    assert main(["proxy", "restart"]) == 1
    assert "exit code 3" in capsys.readouterr().out


def test_the_log_is_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(client, "daemons", lambda run_dir, node="": {"node-1": tmp_path / "daemon.sock"})
    options = argparse.Namespace(run_dir="", node="", worker=None, follow=False, tail=1)
    with pytest.raises(Failure, match="no worker has written"):
        proxy.log(options)
    for number in (0, 1):
        (tmp_path / f"proxy-{number}.log").write_text(f"first {number}\nlast {number}\n")
    monkeypatch.setattr(proxy, "write", lambda data: written.append(data))
    written: list[bytes] = []
    proxy.log(options)
    assert written == [b"last 0\n", b"last 1\n"]
    options.follow = True
    with pytest.raises(Failure, match="whose"):
        proxy.log(options)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, ""),
        ({"wanted": 0, "workers": []}, "none on this node"),
        (PROXY, "1 of 1 worker serving; pid 4711, generation 2, revision 7; 1 restart"),
        ({**PROXY, "refused": [{}, {}]},
         "1 of 1 worker serving; pid 4711, generation 2, revision 7; 1 restart; 2 resources REFUSED"),
        ({"wanted": 1, "serving": 0, "workers": [{"worker": 0, "state": "down"}]}, "0 of 1 worker serving"),
        ({**PROXY, "steering": "off"},
         "1 of 1 worker serving; pid 4711, generation 2, revision 7; 1 restart; steering OFF"),
    ],
    ids=["an older daemon", "none", "serving", "refusals", "down", "not steered"],
)  # fmt: skip
def test_the_line_in_status(value: dict[str, Any], said: str) -> None:
    assert node_status.proxy(value) == said
