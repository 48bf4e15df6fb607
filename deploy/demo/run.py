#!/usr/bin/env python3
"""`make demo`: a shop on two nodes, policy in the kernel between its parts, and routes between its requests.

Brings a local cluster up, tries every pair of source and destination, and prints what the wire did beside what
`weft policy verdict` predicts; then the verdicts and drops as the kernel told them; then a canary and HTTP policy,
counted. Exit code 1 if anything is not as predicted. Leaves nothing behind; with --keep it leaves the cluster
running, and says what to try.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WEFT = str(Path(sys.executable).with_name("weft"))
RUN_DIR = "/run/weft-demo"
BUY = "import urllib.request as r; print(r.urlopen('http://frontend.shop/buy', timeout=3).read().decode().strip())"
PATIENCE = 0.7  # seconds after which silence means dropped
GREEN, RED, BOLD, DIM, END = (f"\033[{code}m" if sys.stdout.isatty() else "" for code in (32, 31, 1, 2, 0))
WORDS = {True: ("reached", "ALLOWED"), False: ("dropped", "DENIED")}  # on the wire, by `weft policy verdict`
CELL = 17


@dataclass(frozen=True)
class Party:
    """`weft`: what policy calls it; `address`: what one connects to, by family ("" "": only a source)."""

    name: str
    namespace: str
    weft: str
    port: int
    address: tuple[str, ...]


class Cluster:
    def __init__(self) -> None:
        self.environment = {**os.environ, "WEFT_RUN_DIR": RUN_DIR}

    def weft(self, *words: str, send: str = "", show: bool = False, check: bool = True) -> str:
        """The output of a weft command; `show`: straight to the terminal."""
        done = subprocess.run(
            [WEFT, *words], env=self.environment, cwd=ROOT, input=send, text=True, capture_output=not show
        )
        if check and done.returncode:
            sys.exit(f"demo: weft {' '.join(words)} failed ({done.returncode}):\n{done.stderr or ''}")
        return done.stdout or ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    options = parser.parse_args()
    cluster = Cluster()
    cluster.weft("local", "down", check=False)
    try:
        wrong = show(cluster)
        if options.keep:
            print(hints(cluster))
        return 1 if wrong else 0
    finally:
        if not options.keep:
            print(cluster.weft("local", "down"), end="")


def show(cluster: Cluster) -> int:
    """The number of pairs where the wire and the prediction differ."""
    title("A cluster of two nodes, from plain manifests")
    cluster.weft("local", "up", "-f", "deploy/demo/shop.yaml", "-f", "deploy/demo/policies", show=True)
    cluster.weft("local", "get", "pods", show=True)
    title("The shop at work: an order passes frontend, orders and payments to the bank")
    print(cluster.weft("local", "exec", "-n", "lab", "intruder", "--", "python3", "-c", BUY), end="")
    title("Who may reach whom: by connecting, and as policy predicts")
    parties = learn(cluster)
    measured, predicted = measure(cluster, parties), predict(cluster, parties)
    wrong = sum(measured[pair] != predicted[pair] for pair in predicted)
    print(matrix(parties, measured, predicted))
    pairs = len(predicted)
    print(
        f"\n{pairs - wrong} of {pairs} agree" + (f"; {RED}{wrong} DO NOT{END}" if wrong else f" {GREEN}(all){END}")
    )
    title("What the kernel decided, and by which policy")
    print("(the same order again; probes of the node and name lookups are left out)", flush=True)
    cluster.weft("local", "exec", "-n", "lab", "intruder", "--", "python3", "-c", BUY)
    time.sleep(0.2)  # flows are on their way from the kernel
    words = ["-t", "policy-verdict", "--verdict", "FORWARDED", "--not", "--from-identity", "1", "--port", "8080"]
    cluster.weft("observe", *words, "--port", "80", "--last", "5", "--print-policy-names", show=True)
    title("What it dropped")
    cluster.weft("observe", "-t", "drop", "--last", "8", show=True)
    return wrong + requests(cluster)


def requests(cluster: Cluster) -> int:
    """The number of answers that are not as the catalogue's files say."""
    title("Requests: a canary by VirtualService, and HTTP policy, from deploy/demo/http")
    cluster.weft("local", "apply", "-f", "deploy/demo/http")
    until_ready(cluster, "catalog")
    url, shown = "http://catalog/", []
    for about, words in (
        ("200 requests", (url, "200")),
        ("20 with x-canary: true", (url, "20", "GET", "x-canary:true")),
        ("a POST", (url, "1", "POST")),
    ):
        ask = ("python3", "-I", "-S", str(HERE / "ask.py"), *words)
        shown.append(cluster.weft("local", "exec", "-n", "lab", "intruder", "--", *ask).strip())
        print(f"{about:<24}{shown[-1]}", flush=True)
    question = ("--from", "lab/intruder", "--to", "lab/catalog", "--port", "80", "--method", "POST")
    print(cluster.weft("policy", "verdict", *question), end="")
    title("What the proxies told")
    time.sleep(1.2)  # counts are told once a second
    cluster.weft("observe", "-t", "l7", "--verdict", "DROPPED", "--last", "1", "--print-policy-names", show=True)
    cluster.weft("stat", "deploy", "-n", "lab", show=True)
    both = "catalog-v1" in shown[0] and "catalog-v2" in shown[0]
    return (not both) + (shown[1] != "20 x catalog-v2") + (shown[2] != "1 x 403 Access denied")


def until_ready(cluster: Cluster, name: str) -> None:
    end = time.monotonic() + 20
    while True:
        pods = json.loads(cluster.weft("local", "get", "pods", "-o", "json"))
        mine = [pod for pod in pods if pod["name"].startswith(name)]
        if mine and all(pod["ready"] for pod in mine):
            return
        if time.monotonic() > end:
            sys.exit(f"demo: {name} did not become ready")
        time.sleep(0.2)


def learn(cluster: Cluster) -> list[Party]:
    """The matrix's rows and columns: one pod of each workload, reached by its Service where it has one."""
    pods = {}
    for pod in json.loads(cluster.weft("local", "get", "pods", "-o", "json")):
        pods.setdefault(pod["workload"].rpartition("/")[2], pod)
    found = []
    for name in ("frontend", "orders", "payments", "intruder", "bank", "elsewhere"):
        pod = pods[name]
        outside = not pod["node"]
        weft = pod["ips"][0] if outside else f"{pod['namespace']}/{pod['name']}"
        found.append(Party(name, pod["namespace"], weft, 80 if outside else 8080, tuple(pod["ips"])))
    return found


Pair = tuple[str, str]


def pairs(parties: list[Party]) -> Iterable[tuple[Party, Party]]:
    """All that can be asked: not oneself, and not from one host outside to another, where no policy stands."""
    outside = {"bank", "elsewhere"}
    return [(a, b) for a in parties for b in parties if a is not b and not {a.name, b.name} <= outside]


def measure(cluster: Cluster, parties: list[Party]) -> dict[Pair, bool]:
    """Connects from every pod to every pod, by IPv4 and IPv6; they must agree. All sources at the same time."""
    running = {}
    for source in parties:
        targets = [b for a, b in pairs(parties) if a is source]
        urls = [f"http://{bracket(ip)}:{target.port}/healthz" for target in targets for ip in target.address]
        words = [WEFT, "local", "exec", "-i", "-n", source.namespace, source.name, "--"]
        words += ["python3", "-I", "-S", str(HERE / "reach.py"), str(PATIENCE)]
        process = subprocess.Popen(
            words, env=cluster.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin
        process.stdin.write("\n".join(urls))
        process.stdin.close()
        running[source.name] = (process, [(source.name, t.name) for t in targets for _ in t.address])
    found: dict[Pair, bool] = {}
    for process, asked in running.values():
        assert process.stdout
        for pair, why in zip(asked, json.loads(process.stdout.read()), strict=True):
            if found.setdefault(pair, not why) != (not why):
                sys.exit(f"demo: {' -> '.join(pair)}: IPv4 and IPv6 differ")
        process.wait()
    return found


def bracket(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def predict(cluster: Cluster, parties: list[Party]) -> dict[Pair, bool]:
    """The answers of `weft policy verdict --batch`, from what the daemons hold."""
    asked = list(pairs(parties))
    questions = [
        json.dumps({"id": number, "from": a.weft, "to": b.weft, "port": b.port, "protocol": "TCP"})
        for number, (a, b) in enumerate(asked)
    ]
    answers = cluster.weft("policy", "verdict", "--batch", "-", send="\n".join(questions) + "\n").splitlines()
    found = {}
    for line, (a, b) in zip(answers, asked, strict=True):
        answer = json.loads(line)
        if "verdict" not in answer:
            sys.exit(f"demo: {a.name} -> {b.name}: {answer.get('error')}")
        found[(a.name, b.name)] = answer["verdict"] == "ALLOWED"
    return found


def matrix(parties: list[Party], measured: dict[Pair, bool], predicted: dict[Pair, bool]) -> str:
    names = [party.name for party in parties]
    lines = [f"{'from / to':<11}" + "".join(f"{name:<{CELL}}" for name in names)]
    for source in names:
        cells = [cell(measured.get((source, to)), predicted.get((source, to))) for to in names]
        lines.append(f"{source:<11}" + "".join(cells))
    return "\n".join(lines)


def cell(measured: bool | None, predicted: bool | None) -> str:
    if measured is None or predicted is None:
        return f"{'-':<{CELL}}"
    colour = RED if measured != predicted else GREEN if measured else DIM
    return f"{colour}{WORDS[measured][0] + ' ' + WORDS[predicted][1]:<{CELL}}{END}"


def title(text: str) -> None:
    print(f"\n{BOLD}{text}{END}", flush=True)


def hints(cluster: Cluster) -> str:
    payments = next(party.weft for party in learn(cluster) if party.name == "payments")
    return f"""
{BOLD}The cluster is left running. To look around:{END}

  export WEFT_RUN_DIR={RUN_DIR} PATH={Path(WEFT).parent}:$PATH
  weft status                                     what runs, and what was refused
  weft policy explain {payments}
                                                  what may reach it, and by which rule
  weft observe -f --print-policy-names            flows, as they happen
  weft local exec -n lab intruder -- curl -m1 http://payments.shop/
                                                  is dropped, until you
  mv deploy/demo/policies/*.yaml /tmp             for the folder is followed (move them back, and see again)
  weft local down                                 removes everything
"""


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)
