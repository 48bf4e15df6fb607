"""`weft policy` as scripts see it: the contract of verdict and batch, exit codes, and what goes where."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from weft.daemon import dns
from weft.daemon.cli import policy_world
from weft.daemon.cli.main import main

MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: foo, labels: {app: foo}}
spec: {containers: [{name: c, image: x, ports: [{name: web, containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bar, labels: {app: bar}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: foo, namespace: other, labels: {app: foo}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host, namespace: default}
spec: {hostNetwork: true, containers: [{name: c, image: x}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  replicas: 2
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec: {containers: [{name: c, image: x, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {clusterIP: 10.96.7.7, selector: {app: orders}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: foo}
spec: {selector: {app: bar}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: mixed}
spec: {selector: {}, ports: [{name: p, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mixed-1, labels: {kubernetes.io/service-name: mixed}}
addressType: IPv4
ports: [{name: p, port: 443}]
endpoints: [{addresses: [192.0.2.1]}, {addresses: [198.51.100.1]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: orders}
spec:
  endpointSelector: {matchLabels: {app: orders}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: foo}}]
    toPorts: [{ports: [{port: http, protocol: TCP}], rules: {http: [{method: GET, path: /public}]}}]
  - fromEndpoints: [{matchLabels: {app: foo}}]
    toPorts: [{ports: [{port: '9090', endPort: 9099, protocol: TCP}]}]
  - icmps: [{fields: [{type: 8}]}]
  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: foo}}]
    toPorts: [{ports: [{port: '9095', protocol: TCP}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: bar}
spec:
  endpointSelector: {matchLabels: {app: bar}}
  egress:
  - toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}]
"""
REFUSED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: broken}
spec: {endpointSelector: {}, ingress: [{fromEntities: [nowhere]}]}
"""


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    folder = tmp_path / "manifests"
    (folder / "deeper").mkdir(parents=True)
    pods, _, policies = MANIFESTS.partition("---\napiVersion: cilium.io/v2")
    (folder / "pods.yaml").write_text(pods)
    (folder / "deeper" / "policies.yml").write_text("apiVersion: cilium.io/v2" + policies)
    (folder / "notes.txt").write_text("no manifest: {")
    (folder / ".hidden.yaml").write_text(REFUSED)
    return str(folder)


class Shell:
    """Runs the command and keeps what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, manifests: str) -> None:
        self.capsys, self.monkeypatch, self.manifests = capsys, monkeypatch, manifests
        self.code = -1
        self.out = self.err = ""

    def run(self, *words: str) -> str:
        self.code = main(["policy", *words])
        self.out, self.err = self.capsys.readouterr()
        return self.out

    def ask(self, source: str, to: str, port: int | str, *more: str) -> dict[str, Any]:
        flags = ("--from", source, "--to", to, "--port", str(port), "-o", "json")
        answer: dict[str, Any] = json.loads(self.run("verdict", "-f", self.manifests, *flags, *more))
        return answer

    def batch(self, *lines: object) -> list[dict[str, Any]]:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        self.monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return [json.loads(line) for line in self.run("verdict", "-f", self.manifests, "--batch", "-").splitlines()]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, manifests: str) -> Shell:
    return Shell(capsys, monkeypatch, manifests)


ORIGIN = {"kind": "CiliumNetworkPolicy", "namespace": "default", "name": "orders"}

FLOWS = [
    ("a Service's port is judged on its backends' named target port", ("default/foo", "default/orders", 80), True),
    ("the Service's address is the Service", ("default/foo", "10.96.7.7", 80), True),
    ("svc/ forces the Service", ("default/foo", "svc/default/orders", 80), True),
    ("who is not named is denied", ("default/bar", "default/orders", 80), False),
    ("nor is another namespace's namesake", ("other/foo", "default/orders", 80), False),
    ("a Service has no other port", ("default/foo", "default/orders", 8080), False),
    ("a Service without ready backends reaches nobody", ("default/foo", "default/empty", 80), False),
    ("a Pod comes before a Service of its name", ("default/bar", "default/foo", 80), False),
    ("svc/ forces it there too", ("default/foo", "svc/default/foo", 80), True),
    ("every backend must be allowed", ("default/bar", "default/mixed", 80), False),
    ("an address outside by CIDR", ("default/bar", "192.0.2.1", 443), True),
    ("but not the exception", ("default/bar", "192.0.2.129", 443), False),
    ("the node's DNS is always allowed", ("default/bar", "10.96.0.10", 53), True),
    ("whom no policy selects may do anything", ("default/foo", "2001:db8::1", 1), True),
    ("from outside to a workload without policy", ("198.51.100.1", "default/foo", 1), True),
    ("a workload reaches itself", ("default/bar", "default/bar", 1), True),
    ("neither end is a workload", ("192.0.2.1", "198.51.100.1", 1), True),
    ("a pod on the host network is its node", ("default/on-host", "default/orders", 80), True),
]


@pytest.mark.parametrize(("flow", "allowed"), [row[1:] for row in FLOWS], ids=[row[0] for row in FLOWS])
def test_flow(shell: Shell, flow: tuple[str, str, int], allowed: bool) -> None:
    answer = shell.ask(*flow)
    assert answer["verdict"] == ("ALLOWED" if allowed else "DENIED"), answer["reason"]
    assert shell.code == 0


def test_an_allowed_flow_names_its_rules(shell: Shell) -> None:
    answer = shell.ask("default/foo", "default/orders", 80)
    assert answer["redirected"] is True
    assert answer["ingress"]["rules"] == [{**ORIGIN, "path": "spec.ingress[0]"}]
    assert answer["ingress"]["match"] == "L3-L4"
    assert answer["egress"]["rules"] == []
    assert [backend["port"] for backend in answer["backends"]] == [8080, 8080]


def test_a_denial_by_rule_names_the_rule(shell: Shell) -> None:
    pod = shell.ask("default/foo", "default/orders", 80)["backends"][0]["to"]
    answer = shell.ask("default/foo", pod, 9095)
    assert (answer["verdict"], answer["redirected"]) == ("DENIED", False)
    assert answer["ingress"]["rules"] == [{**ORIGIN, "path": "spec.ingressDeny[0]"}]


@pytest.mark.parametrize(
    ("source", "port", "protocol", "path", "failed"),
    [
        ("default/foo", 9100, "TCP", "spec.ingress[0]", "port"),
        ("default/bar", 9090, "TCP", "spec.ingress[1]", "peer"),
        ("default/foo", 8, "ICMPv6", "spec.ingress[0]", "protocol"),
        ("default/foo", 0, "ICMPv4", "spec.ingress[2]", "port"),
    ],
)
def test_a_default_denial_names_the_nearest_miss(
    shell: Shell, source: str, port: int, protocol: str, path: str, failed: str
) -> None:
    pod = shell.ask("default/foo", "default/orders", 80)["backends"][0]["to"]
    answer = shell.ask(source, pod, port, "--protocol", protocol)
    assert answer["verdict"] == "DENIED"
    nearest = answer["ingress"]["nearest"]
    assert (nearest["path"], nearest["failed"]) == (path, failed), nearest
    assert nearest["name"] == "orders"
    assert answer["ingress"]["enforced_by"] == [ORIGIN]


def test_a_request_is_judged_by_the_http_rules(shell: Shell) -> None:
    assert shell.ask("default/foo", "default/orders", 80, "--path", "/public")["verdict"] == "ALLOWED"
    answer = shell.ask("default/foo", "default/orders", 80, "--path", "/public", "--method", "POST")
    assert (answer["verdict"], answer["redirected"]) == ("DENIED", True)
    assert answer["ingress"]["verdict"] == "ALLOWED"
    assert answer["http"]["nearest"]["path"] == "spec.ingress[0].toPorts[0].rules.http[0]"
    assert answer["http"]["nearest"]["failed"] == "method"


def test_a_request_to_where_none_are_judged_passes(shell: Shell) -> None:
    answer = shell.ask("default/foo", "default/bar", 80, "--header", "X: 1")
    assert answer["verdict"] == "ALLOWED"
    assert answer["http"]["judged"] is False


def test_check_turns_the_verdict_into_the_exit_code(shell: Shell) -> None:
    flags = ("verdict", "-f", shell.manifests, "--from", "default/bar", "--to", "default/orders", "--port", "80")
    shell.run(*flags)
    assert shell.code == 0
    assert shell.out.startswith("DENIED: default/bar -> Service default/orders 80/TCP")
    shell.run(*flags, "--check")
    assert shell.code == 1


def test_batch_answers_line_by_line(shell: Shell) -> None:
    answers = shell.batch(
        {"id": 1, "from": "default/foo", "to": "default/orders", "port": 80, "protocol": "TCP"},
        "",
        {"id": "two", "from": "default/bar", "to": "default/orders", "port": "80", "protocol": "tcp"},
        {
            "id": 3,
            "from": "default/foo",
            "to": "default/orders",
            "port": 80,
            "http": {"method": "GET", "path": "/public", "headers": {"X-A": ["1", "2"], "X-B": "3"}},
        },
        {"id": 4, "from": "default/foo", "to": "default/orders", "port": 80, "http": None},
    )
    assert shell.code == 0
    assert [(a["id"], a["verdict"]) for a in answers] == [
        (1, "ALLOWED"), ("two", "DENIED"), (3, "ALLOWED"), (4, "ALLOWED"),
    ]  # fmt: skip
    assert {"id", "verdict", "redirected", "reason", "egress", "ingress"} <= answers[0].keys()
    assert "http" not in answers[0]
    assert answers[2]["http"]["verdict"] == "ALLOWED"


GOOD = {"id": 7, "from": "default/foo", "to": "default/bar", "port": 80}
BAD_LINES = [
    ("not JSON", "{", None, "not JSON"),
    ("not an object", "[1]", None, "object"),
    ("nobody has that name", {**GOOD, "to": "default/nobody"}, 7, "default/nobody"),
    ("no source", {"id": 7, "to": "default/bar", "port": 80}, 7, "from"),
    ("a Service is no source", {**GOOD, "from": "default/empty"}, 7, "Service"),
    ("no port", {"id": 7, "from": "default/foo", "to": "default/bar"}, 7, "port"),
    ("port zero", {**GOOD, "port": 0}, 7, "port"),
    ("a port too high", {**GOOD, "port": 65536}, 7, "port"),
    ("a port that is no number", {**GOOD, "port": True}, 7, "port"),
    ("a type too high", {**GOOD, "protocol": "ICMPv4", "port": 256}, 7, "port"),
    ("a port that is half a number", {**GOOD, "port": 80.5}, 7, "port"),
    ("an infinite port", '{"id":7,"from":"default/foo","to":"default/bar","port":Infinity}', None, "not JSON"),
    ("an id that JSON does not know", '{"id":NaN}', None, "not JSON: NaN"),
    ("a path that is no string", {**GOOD, "http": {"path": 7}}, 7, "http.path"),
    ("an unknown protocol", {**GOOD, "protocol": "QUIC"}, 7, "protocol"),
    ("http is no object", {**GOOD, "http": "GET /"}, 7, "http"),
    ("http over UDP", {**GOOD, "protocol": "UDP", "http": {}}, 7, "http"),
    ("a header that is no string", {**GOOD, "http": {"headers": {"A": 1}}}, 7, "headers.A"),
    ("a bottomless line", "[" * 100_000, None, ""),
]


@pytest.mark.parametrize(
    ("line", "number", "reason"), [row[1:] for row in BAD_LINES], ids=[r[0] for r in BAD_LINES]
)
def test_a_bad_line_is_answered_and_the_rest_goes_on(
    shell: Shell, line: object, number: object, reason: str
) -> None:
    bad, good = shell.batch(line, GOOD)
    assert bad["id"] == number
    assert reason in bad["error"]
    assert (good["id"], good["verdict"]) == (7, "ALLOWED")
    assert shell.code == 1


GOOD_LINES: list[tuple[str, object]] = [
    ("a port as a string", {**GOOD, "port": "80"}),
    ("a port as JSON may write it", {**GOOD, "port": 80.0}),
    ("no protocol", {**GOOD, "protocol": None}),
    ("a byte order mark", "\ufeff" + json.dumps(GOOD)),
    ("a line of Windows", json.dumps(GOOD) + "\r"),
    ("null is left out", {**GOOD, "http": {"method": None, "path": None, "host": None, "headers": None}}),
    ("a comment beside it", {**GOOD, "comment": "as it was yesterday"}),
]


@pytest.mark.parametrize("line", [row[1] for row in GOOD_LINES], ids=[row[0] for row in GOOD_LINES])
def test_a_line_is_read_generously(shell: Shell, line: object) -> None:
    (answer,) = shell.batch(line)
    assert (answer["id"], answer.get("verdict")) == (7, "ALLOWED")
    assert shell.code == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--method", "POST", "--path", "/public"), "it allows GET /public; the request has method POST"),
        (("--path", "/private"), "it allows GET /public; the request has path /private"),
        (("--path", ""), "it allows GET /public; the request has no path"),
    ],
)
def test_a_refused_request_is_told_what_would_have_passed(shell: Shell, flags: tuple[str, ...], told: str) -> None:
    answer = shell.ask("default/foo", "default/orders", 80, *flags)
    assert answer["http"]["nearest"]["detail"] == told
    assert answer["reason"].endswith(told)


def test_what_a_named_port_stands_for_is_told(shell: Shell) -> None:
    nearest = shell.ask("default/foo", "default/orders", 81)
    assert nearest["verdict"] == "DENIED"
    pod = shell.ask("default/foo", "svc/default/orders", 80)["backends"][0]["to"]
    reason = shell.ask("default/foo", pod, 81)["reason"]
    assert reason.endswith("it allows http/TCP, not 81/TCP; http is 8080/TCP of the workload itself")


def test_a_rule_about_addresses_is_not_nearly_about_a_workload(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "bar2.yaml").write_text(BAR_TO_FOO)
    nearest = shell.ask("default/bar", "other/foo", 80)["egress"]["nearest"]
    assert (nearest["name"], nearest["failed"]) == ("to-foo", "peer")
    assert shell.ask("default/bar", "192.0.2.200", 80)["egress"]["nearest"]["name"] == "bar"


BAR_TO_FOO = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: to-foo}
spec:
  endpointSelector: {matchLabels: {app: bar}}
  egress: [{toEndpoints: [{matchLabels: {app: foo}}], toPorts: [{ports: [{port: '81', protocol: TCP}]}]}]
"""
WATCHED = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: plain}
spec:
  endpointSelector: {matchLabels: {app: orders}}
  ingress: [{fromEndpoints: [{matchLabels: {app: foo}}]}]
"""


def test_who_lifts_the_limits_of_requests_is_told(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "plain.yaml").write_text(WATCHED)
    answer = shell.ask("default/foo", "default/orders", 80, "--path", "/private", "--method", "POST")
    assert (answer["verdict"], answer["redirected"]) == ("ALLOWED", True)
    assert answer["http"]["rules"] == [{**ORIGIN, "name": "plain", "path": "spec.ingress[0]"}]


def test_both_families_of_a_backend_are_one_answer(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "two.yaml").write_text("""
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: two}}
spec: {containers: [{name: c, image: x}]}
status: {podIPs: [{ip: 10.1.1.1}, {ip: 'fd01::1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: two-faced}
spec: {selector: {app: two}, ports: [{port: 80}]}
""")
    backends = shell.ask("default/foo", "default/two-faced", 80)["backends"]
    assert [backend["to"] for backend in backends] == ["default/two"]


def test_the_dns_addresses_are_those_that_nodes_serve() -> None:
    """Written twice, since reading them where they are served costs a library for DNS."""
    assert policy_world.DNS == dns.ADDRESSES


def test_a_refused_manifest_stops_it_and_says_where(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(REFUSED)
    flow = ("--from", "default/foo", "--to", "default/bar", "--port", "80")
    files = ("-f", shell.manifests, "-f", str(tmp_path / "broken.yaml"))
    shell.run("verdict", *files, *flow)
    assert (shell.code, shell.out) == (2, "")
    for part in (
        "broken.yaml:",
        "CiliumNetworkPolicy default/broken",
        "spec.ingress[0].fromEntities[0]",
        "nowhere",
    ):
        assert part in shell.err
    shell.run("verdict", *files, *flow, "--keep-going")
    assert shell.code == 0
    assert shell.out.startswith("ALLOWED")
    assert "nowhere" in shell.err


@pytest.mark.parametrize(
    "words",
    [
        ("verdict", "-f", "/nowhere", "--from", "a/b", "--to", "a/c", "--port", "1"),
        ("verdict", "-f", "MANIFESTS", "--to", "default/foo", "--port", "1"),
        ("verdict", "-f", "MANIFESTS", "--from", "default/foo", "--to", "x/y/z/w", "--port", "1"),
        ("verdict", "-f", "MANIFESTS", "--from", "default/foo", "--to", "default/bar", "--port", "x"),
        ("verdict", "-f", "MANIFESTS", "--batch", "/nowhere"),
        ("explain", "-f", "MANIFESTS", "default/nobody"),
        ("explain", "-f", "MANIFESTS", "default/on-host"),
    ],
)
def test_a_wrong_question_is_exit_code_2_and_one_line(shell: Shell, words: tuple[str, ...]) -> None:
    shell.run(*(shell.manifests if word == "MANIFESTS" else word for word in words))
    assert shell.code == 2
    assert shell.out == ""
    assert len(shell.err.splitlines()) == 1


def test_explain_says_who_by_which_rule_and_which_requests(shell: Shell) -> None:
    shell.run("explain", "-f", shell.manifests, "default/orders", "-o", "json")
    found = json.loads(shell.out)
    peers = {tuple(peer["who"]): peer["lines"] for peer in found["ingress"]["peers"]}
    assert set(peers) == {("any peer",), ("host",), ("default/foo",)}
    lines = {line["ports"][0]: line for line in peers[("default/foo",)]}
    assert set(lines) == {"8080/TCP", "9090-9099/TCP", "9095/TCP"}
    assert lines["8080/TCP"]["http"] == ["GET /public"]
    assert lines["8080/TCP"]["redirected"] is True
    assert lines["9090-9099/TCP"]["rules"] == [{**ORIGIN, "path": "spec.ingress[1]"}]
    assert lines["9095/TCP"]["verdict"] == "DENIED"
    assert found["egress"]["enforced"] is False


def test_explain_reads_well(shell: Shell) -> None:
    text = shell.run("explain", "-f", shell.manifests, "default/bar")
    assert "ingress: not restricted" in text
    assert "egress: default deny, by CiliumNetworkPolicy default/bar" in text
    assert "it may reach: 192.0.2.0/24" in text


def test_list_and_get_show_policies_resolved(shell: Shell) -> None:
    assert [line.split()[:3] for line in shell.run("list", "-f", shell.manifests).splitlines()[1:]] == [
        ["CiliumNetworkPolicy", "default", "bar"],
        ["CiliumNetworkPolicy", "default", "orders"],
    ]
    text = shell.run("get", "-f", shell.manifests, "default/orders")
    assert "allow from default/foo: http/TCP" in text
    assert "GET /public" in text
    shell.run("get", "-f", shell.manifests, "default/none")
    assert shell.code == 1


def test_validate_tells_everything_at_once(shell: Shell, tmp_path: Path) -> None:
    shell.run("validate", "-f", shell.manifests)
    assert (shell.code, shell.out) == (0, "2 policies and 5 workloads read\n")
    (tmp_path / "broken.yaml").write_text(REFUSED)
    shell.run("validate", "-f", str(tmp_path / "broken.yaml"))
    assert shell.code == 2
    assert shell.out.startswith("refused: ")


def test_ten_thousand_lines_take_a_few_seconds(shell: Shell) -> None:
    lines = [
        {**GOOD, "id": at, "to": f"192.0.{at >> 8}.{at & 255}", "port": at % 65535 + 1} for at in range(10_000)
    ]
    started = time.perf_counter()
    assert len(shell.batch(*lines)) == 10_000
    assert time.perf_counter() - started < 10


def test_one_f_takes_several_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c}}]}}\n"
        )
    words = ["policy", "verdict", "-f", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    assert main([*words, "--from", "default/a", "--to", "default/b", "--port", "80"]) == 0
    assert "ALLOWED" in capsys.readouterr().out
