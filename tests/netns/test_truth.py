"""Live truth: for every row of `cases`, what the wire does, what `weft policy verdict` says and what the
specification says are the same, on IPv4 and IPv6, on one node and across two."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from live_cluster import Cluster, Probe, running
from truth_cases import CASES, Case
from weft.daemon.cli.main import main as weft

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

GET, PUT = ({"method": method, "path": "/", "headers": [["Host", "x"]]} for method in ("GET", "PUT"))
#: A refused connection is silent (the packet is dropped), so a denied probe lasts as long as it is waited for.
ALLOWED_WITHIN, DENIED_AFTER = 5.0, 0.4


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("weft-truth") as cluster:
        yield cluster


def predict(cluster: Cluster, policies: str, probes: list[Probe]) -> list[dict[str, object]]:
    """The answers of `weft policy verdict --batch`, offline, for the same objects."""
    (cluster.sockets / "case.yaml").write_text(policies)
    (cluster.sockets / "batch").write_text("".join(json.dumps(question(i, p)) + "\n" for i, p in enumerate(probes)))
    out = io.StringIO()
    files = ["-f", str(cluster.sockets / "live.yaml"), "-f", str(cluster.sockets / "case.yaml")]
    with contextlib.redirect_stdout(out):
        code = weft(["policy", "verdict", *files, "--batch", str(cluster.sockets / "batch")])
    assert code == 0, out.getvalue()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def question(number: int, probe: Probe) -> dict[str, object]:
    six = ":" in probe.target
    port, protocol = probe.port, probe.protocol.upper()
    if probe.protocol == "ping":
        port, protocol = (128, "ICMPv6") if six else (8, "ICMPv4")
    return {
        "id": number,
        "from": probe.source_name,
        "to": probe.target_name,
        "port": port,
        "protocol": protocol,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_wire_verdict_and_specification_agree(cluster: Cluster, case: Case) -> None:
    documents = [each for each in yaml.safe_load_all(case.policies) if each]
    reply = cluster.apply(documents)
    try:
        refused = [outcome.error for outcome in reply.outcomes if outcome.what == "refused"]
        if case.refused:
            assert len(refused) == 1 and case.refused in refused[0], refused
        else:
            assert not refused
        check(cluster, case)
    finally:
        cluster.delete([outcome.ref for outcome in reply.outcomes if outcome.what != "refused"])


def check(cluster: Cluster, case: Case) -> None:
    allowed = [probe for text in case.allowed for probe in cluster.expand(text)]
    denied = [probe for text in case.denied for probe in cluster.expand(text)]
    proxied = [probe for text in case.needs_proxy for probe in cluster.expand(text)]
    lifted = [probe for text in case.lifted for probe in cluster.expand(text)]
    wrong = [
        f"{p}: {answer}"
        for p, answer in zip(allowed, cluster.measure(allowed, ALLOWED_WITHIN), strict=True)
        if answer != "ok"
    ]
    assert not wrong, "the wire refuses what is allowed:\n" + "\n".join(wrong)
    asked = [replace(probe, protocol="http", requests=(GET, PUT)) for probe in proxied]
    wrong = [
        f"{p}: {answers}"
        for p, answers in zip(asked, cluster.measure(asked, ALLOWED_WITHIN), strict=True)
        if [answer.get("status") for answer in answers] not in ([200, 200], [200, 403], [403, 403])
    ]
    assert not wrong, "the proxy does not answer requests:\n" + "\n".join(wrong)
    assert {*cluster.measure(lifted, ALLOWED_WITHIN)} <= {"ok"}
    refused = denied + [probe for probe in proxied if probe not in lifted]
    wrong = [
        str(p) for p, answer in zip(refused, cluster.measure(refused, DENIED_AFTER), strict=True) if answer == "ok"
    ]
    assert not wrong, "the wire lets through what is denied:\n" + "\n".join(wrong)
    expected = {"ALLOWED": allowed + proxied, "DENIED": denied}
    if not case.refused:
        verdicts = predict(cluster, case.policies, expected["ALLOWED"] + expected["DENIED"])
        for probe, verdict in zip(expected["ALLOWED"] + expected["DENIED"], verdicts, strict=True):
            assert verdict["verdict"] == ("DENIED" if probe in denied else "ALLOWED"), (str(probe), verdict)
            assert verdict["redirected"] == (probe in proxied), (str(probe), verdict)
