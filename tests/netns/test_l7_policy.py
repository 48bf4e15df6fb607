"""Requests judged live: for each row of the contract, what the wire does, what `weft policy verdict` says and what
the specification says are the same, on IPv4 and IPv6, on one node and across two. Each request is sent twice over
one connection, for a denial does not end it. Then what rows cannot say: what happens to connections that are open.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from http import client as http_client
from typing import Any

import pytest
import yaml

from contract import http as contract
from contract.rows import Row, anybody_http, egress, http, ingress
from inside import Inside
from live_cluster import Cluster, Probe, running
from truth_cases import FOO_80, S, both, cnp
from weft.daemon.cli.main import main as weft

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

ALLOWED_WITHIN, DENIED_AFTER = 5.0, 0.4
HOST = "x.test"
FORBIDDEN = {"status": 403, "body": "Access denied\r\n"}

GET_ONLY = FOO_80.replace("protocol: TCP}]", "protocol: TCP}], rules: {http: [{method: GET}]}")
MORE = [
    Row(
        "E11 the node's requests pass",
        anybody_http("path: /x"),
        proxy=("host > s:80 GET /y",),
        forbid=("foo > s:80 GET /y",),
    ),
    Row(
        "E7 an L7 rule with default deny off only shows",
        ingress("{" + http("{path: /x}") + "}", "enableDefaultDeny: {ingress: false}\n"),
        proxy=("foo > s:80 GET /y", "world > s:80 POST /"),
    ),
    Row(
        "to the world",
        egress("{toEntities: [world], " + http("{path: /x}") + "}"),
        proxy=("s > world:80 GET /x",),
        forbid=("s > world:80 GET /y",),
    ),
    Row(
        "one workload's two directions",
        both(
            cnp(GET_ONLY),
            egress("{toEntities: [cluster], " + http("{path: /x}") + "}").replace("name: p", "name: q"),
        ),
        proxy=("foo > s:80 GET /y", "s > bar:80 POST /x"),
        forbid=("foo > s:80 PUT /", "s > bar:80 GET /y"),
    ),
]
ROWS = [row for row in (*contract.ROWS, *MORE) if not row.refused]
#: Methods that the proxy does not speak, it says so before policy is asked.
STRANGE = {"get", "GETX", "put"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("wt-v1") as cluster:
        yield cluster


def request(method: str = "GET", path: str = "/", *words: str) -> dict[str, Any]:
    headers = [word.partition("=")[::2] for word in words]
    host = [value for name, value in headers if name.lower() == "host"] or [HOST]
    others = [[name, value] for name, value in headers if name.lower() != "host"]
    return {"method": method, "path": path, "headers": [["Host", host[0]], *others]}


def probes(cluster: Cluster, text: str) -> list[Probe]:
    flow, _, asked = text.replace(" > ", ">", 1).partition(" ")
    found = cluster.expand(flow.replace(">", " > "))
    one = request(*asked.split(" ")) if asked else request()
    return [replace(probe, protocol="http", requests=(one, one)) for probe in found]


def question(number: int, probe: Probe) -> dict[str, Any]:
    one = probe.requests[0]
    headers: dict[str, list[str]] = {}
    for name, value in one["headers"][1:]:
        headers.setdefault(name, []).append(value)
    asked = {"method": one["method"], "path": one["path"], "host": one["headers"][0][1], "headers": headers}
    to, source = probe.target_name, probe.source_name
    return {"id": number, "from": source, "to": to, "port": probe.port, "protocol": "TCP", "http": asked}


def predict(cluster: Cluster, policies: str, wanted: list[Probe]) -> list[dict[str, Any]]:
    (cluster.sockets / "case.yaml").write_text(policies)
    batch = cluster.sockets / "batch"
    batch.write_text("".join(json.dumps(question(i, probe)) + "\n" for i, probe in enumerate(wanted)))
    out = io.StringIO()
    files = ["-f", str(cluster.sockets / "live.yaml"), "-f", str(cluster.sockets / "case.yaml")]
    with contextlib.redirect_stdout(out):
        code = weft(["policy", "verdict", *files, "--batch", str(batch)])
    assert code == 0, out.getvalue()
    return [json.loads(line) for line in out.getvalue().splitlines()]


@contextlib.contextmanager
def applied(cluster: Cluster, text: str) -> Iterator[None]:
    reply = cluster.apply([each for each in yaml.safe_load_all(text) if each])
    try:
        assert not [outcome.error for outcome in reply.outcomes if outcome.what == "refused"]
        yield
    finally:
        cluster.delete([outcome.ref for outcome in reply.outcomes if outcome.what != "refused"])


def outcome(probe: Probe, answers: list[dict[str, Any]]) -> str:
    """What both requests of a probe met; "shut": there was no connection, or none that answered."""
    method = probe.requests[0]["method"]
    if method in STRANGE and answers[0].get("status") == 501:
        return "unknown"
    if "error" in answers[-1]:
        return "shut" if len(answers) == 1 else f"broke off: {answers}"
    first, second = answers
    if first["status"] != second["status"]:
        return f"first {first}, then {second}"
    if first["status"] == 200:
        return "passed"
    denied = FORBIDDEN | ({"body": ""} if method == "HEAD" else {})
    return "forbidden" if first == second == denied else str(first)


def verdict(answer: dict[str, Any]) -> str:
    if answer["verdict"] == "ALLOWED":
        return "passed"
    return "forbidden" if answer["redirected"] else "shut"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_wire_verdict_and_specification_agree(cluster: Cluster, row: Row) -> None:
    expected = [(probe, "passed") for text in (*row.allow, *row.proxy) for probe in probes(cluster, text)]
    expected += [(probe, "forbidden") for text in row.forbid for probe in probes(cluster, text)]
    shut = [(probe, "shut") for text in row.deny for probe in probes(cluster, text)]
    flows = [probe for text in row.proxy if " " not in text.replace(" > ", "") for probe in probes(cluster, text)]
    with applied(cluster, row.policies):
        seen = cluster.measure([probe for probe, _ in expected], ALLOWED_WITHIN)
        seen += cluster.measure([probe for probe, _ in shut], DENIED_AFTER)
        raw = cluster.measure([replace(probe, protocol="tcp", requests=()) for probe in flows], ALLOWED_WITHIN)
    expected += shut
    said = predict(cluster, row.policies, [probe for probe, _ in expected])
    wrong = []
    for (probe, want), wire, told in zip(expected, seen, said, strict=True):
        if probe in flows and verdict(told) == "forbidden":  # the row speaks of the flow, not of this request
            want = "forbidden"
        if want == "shut" and told["egress"]["redirected"]:  # the proxy answers for the far end's policy
            assert verdict(told) == want and outcome(probe, wire) == "forbidden", (probe, wire, told)
            continue
        met = outcome(probe, wire)
        if met not in (want, "unknown") or verdict(told) != want:
            wrong.append(f"{probe} {probe.requests[0]}: wanted {want}, wire {met}, verdict {verdict(told)}")
    assert not wrong, "\n".join(wrong)
    if not row.id.startswith("L8"):  # there a plain allow lets bytes of any kind pass
        assert "ok" not in raw, "what is not HTTP passes where requests are judged"


# what rows cannot say

GET_X = anybody_http("path: /x")


def ask(
    connection: http_client.HTTPConnection, path: str, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection.request("GET", path, headers={"Host": HOST, **(headers or {})})
    reply = connection.getresponse()
    data = reply.read()
    return reply.status, json.loads(data) if reply.status == 200 else data


@pytest.fixture(scope="module")
def inside(cluster: Cluster) -> Inside:
    return Inside("wt-v1")


def address(cluster: Cluster, pod: str) -> str:
    return cluster.addresses[("default", pod)][0]


@pytest.mark.parametrize("client", ["foo", "foo-far"])
def test_header_matches_change_what_the_server_gets(cluster: Cluster, inside: Inside, client: str) -> None:
    words = (
        "headerMatches: [{name: X-Add, value: new, mismatch: ADD}, {name: X-Gone, value: only, mismatch: DELETE},"
        " {name: X-Swap, value: right, mismatch: REPLACE}, {name: X-Log, value: quiet, mismatch: LOG}]"
    )
    with applied(cluster, anybody_http(words)):
        connection = inside.http(client, address(cluster, "s"))
        given = {"X-Add": "old", "X-Gone": "that", "X-Swap": "wrong", "X-Log": "loud"}
        status, seen = ask(connection, "/", given)
        got = sorted((name.lower(), value) for name, value in seen["headers"] if name.lower().startswith("x-"))
        wanted = [("x-add", "new"), ("x-add", "old"), ("x-log", "loud"), ("x-swap", "right")]
        assert status == 200 and [pair for pair in got if pair[0][:3] in ("x-a", "x-g", "x-s", "x-l")] == wanted
        status, seen = ask(connection, "/", {"X-Add": "new", "X-Gone": "only", "X-Swap": "right"})
        assert [value for name, value in seen["headers"] if name.lower() == "x-gone"] == ["only"]


@pytest.mark.parametrize("client", ["foo", "foo-far"])
def test_the_server_sees_the_client_and_flows_tell_of_both_answers(
    cluster: Cluster, inside: Inside, client: str
) -> None:
    with applied(cluster, anybody_http(f"path: /{client}-told")):
        connection = inside.http(client, address(cluster, "s"))
        status, seen = ask(connection, f"/{client}-told")
        assert (status, seen["peer"][0]) == (200, f"::ffff:{address(cluster, client)}")
        assert seen["peer"][1] >= 61000, "the proxy's connection"
        assert ask(connection, f"/{client}-not") == (403, b"Access denied\r\n")
        connection.close()
        for path, code, word in ((f"/{client}-told", 200, "FORWARDED"), (f"/{client}-not", 403, "DROPPED")):
            flows = until(lambda path=path: flows_of(cluster, path), f"flows of {path}")
            requests = [flow for flow in flows if not flow.get("is_reply")]
            assert {flow["source"]["pod_name"] for flow in requests} == {client}
            assert {flow["destination"]["pod_name"] for flow in requests} == {"s"}
            assert word in {flow["verdict"] for flow in flows}, flows
            assert code in {flow["l7"]["http"].get("code") for flow in flows}


def flows_of(cluster: Cluster, path: str) -> list[dict[str, Any]]:
    told = cluster.weft("observe", "--last", "500", "-o", "json", "--type", "l7", "--http-path", path)
    flows = [json.loads(line)["flow"] for line in told.stdout.splitlines() if line.startswith("{")]
    answered = any(flow.get("is_reply") or flow["verdict"] == "DROPPED" for flow in flows)
    return flows if answered else []


def route(kind: str) -> str:
    inner = "[{route: [{destination: {host: svc, port: {number: 8000}}}]}]"
    return (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: front, namespace: default}\n"
        f"spec: {{hosts: [front], {kind}: {inner}}}\n"
    )


ONLY_S = "endpointSelector: {matchLabels: {app: foo}}\ningress: [{fromEndpoints: [{matchLabels: {app: s}}]}]"


def test_policy_is_judged_on_the_backend_that_the_route_chose(cluster: Cluster) -> None:
    """front is s, its route leads to foo: what s or foo say of the client decides accordingly."""
    to_front = probes(cluster, "bar > front:8000 GET /x")
    with applied(cluster, both(route("http"), cnp(S + "ingress: [{}]"))):
        assert {outcome(p, a) for p, a in zip(to_front, cluster.measure(to_front, 5), strict=True)} == {"passed"}
    with applied(cluster, both(route("http"), cnp(ONLY_S))):
        answers = cluster.measure(to_front, 5)
        assert {outcome(p, a) for p, a in zip(to_front, answers, strict=True)} == {"forbidden"}
    with applied(cluster, both(route("tcp"), cnp(ONLY_S))):
        answers = cluster.measure([replace(probe, protocol="tcp", requests=()) for probe in to_front], 5)
        assert {answer.partition(":")[0] for answer in answers} <= {"ConnectionResetError", "BrokenPipeError"}, (
            answers
        )
    with applied(cluster, route("tcp")):
        answers = cluster.measure([replace(probe, protocol="tcp", requests=()) for probe in to_front], 5)
        assert set(answers) == {"ok"}


@pytest.mark.parametrize("client", ["foo", "foo-far"])
def test_an_open_connection_that_becomes_judged_is_reset_and_comes_back(
    cluster: Cluster, inside: Inside, client: str
) -> None:
    connection = inside.http(client, address(cluster, "s"))
    status, seen = ask(connection, "/x")
    assert status == 200 and seen["peer"][1] < 61000, "nobody between"
    with applied(cluster, GET_X):
        with pytest.raises(ConnectionResetError):
            ask(connection, "/x")
        again = inside.http(client, address(cluster, "s"))
        status, seen = ask(again, "/x")
        assert status == 200 and seen["peer"][1] >= 61000
        assert ask(again, "/y")[0] == 403
        again.close()
    connection.close()


@pytest.mark.parametrize("client", ["foo", "foo-far"])
def test_what_is_revoked_is_refused_on_connections_that_are_open(
    cluster: Cluster, inside: Inside, client: str
) -> None:
    with applied(cluster, GET_X):
        connection = inside.http(client, address(cluster, "s"))
        port = ask(connection, "/x")[1]["peer"][1]
        sock = connection.sock
        with applied(cluster, GET_X.replace("/x", "/y")):
            assert ask(connection, "/x") == (403, b"Access denied\r\n")
            assert ask(connection, "/y")[0] == 200
        assert ask(connection, "/x")[0] == 200, "nothing judges it any more, and it stays"
        assert connection.sock is sock and port >= 61000
        connection.close()


def workers(cluster: Cluster) -> dict[str, int]:
    """node -> the pid of its proxy, of those that serve."""
    told = json.loads(cluster.weft("proxy", "status", "-o", "json").stdout)
    rows = [(node, row) for node, proxy in told.items() for row in proxy["workers"]]
    return {node: row["pid"] for node, row in rows if row["state"] == "serving"}


def test_without_its_proxy_a_node_refuses_what_is_judged_and_nothing_else(cluster: Cluster, inside: Inside) -> None:
    open_81 = cnp(S + "ingress: [{toPorts: [{ports: [{port: '81'}]}]}]", "q")
    with applied(cluster, both(GET_X, open_81)):
        held = inside.http("foo", address(cluster, "s"))
        assert ask(held, "/x")[0] == 200
        plain = inside.connect("foo", address(cluster, "s"), 81, 5)
        pid = workers(cluster)["node-1"]
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises((ConnectionResetError, http_client.RemoteDisconnected)):
            ask(held, "/x")
        refused = 0
        while True:
            plain.sendall(b"still here")
            assert plain.recv(64) == b"echo still here"
            try:
                again = inside.http("foo", address(cluster, "s"), timeout=2)
                status, _ = ask(again, "/y")
                assert status == 403, "never past the proxy"
                assert ask(again, "/x")[0] == 200
                break
            except ConnectionError:
                refused += 1
                assert time.monotonic() - killed < 5
                time.sleep(0.01)
        print(f"back after {time.monotonic() - killed:.2f} s, refused {refused} times")
        assert workers_soon(cluster)["node-1"] != pid


def workers_soon(cluster: Cluster) -> dict[str, int]:
    found: dict[str, int] = until(lambda: len(w := workers(cluster)) == 2 and w, "both proxies")
    return found


def until(condition: Any, what: str, seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return value
