"""The same requests through our proxy and through Envoy, with the same routes; what differs, field by field.

Both run as real processes in front of one server, which tells what reached it. `python -m tests.bench.beside`
prints the differences; those that are meant stand in l7proxy/README.md.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import envoy
from tests.bench.beside.cases import CASES, HOST
from tests.bench.beside.routes import ENVOY, OWN, RULES, cluster
from tests.bench.beside.server import Server
from tests.bench.proxy import free_port, wait_listening
from tests.support.proxy_lab import ProxyLab

from weft.policies.mesh import model as mesh
from weft.policies.model import ObjectRef

EXPOSED = {"date", "x-envoy-upstream-service-time"}
#: Of what the server saw: differ from run to run.
DRAWN = {"x-request-id", "x-envoy-expected-rq-timeout-ms", "x-key"}


@dataclass
class Answer:
    status: int = 0
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""
    trailers: list[str] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    closed: bool = False
    saw: dict[str, Any] = field(default_factory=dict)
    broken: str = ""


def ask(address: tuple[str, int], source: str, sent: bytes) -> Answer:
    found = Answer()
    with socket.socket() as sock:
        sock.bind((source, 0))
        sock.settimeout(4)
        sock.connect(address)
        reader = sock.makefile("rb")
        try:
            sock.sendall(sent)
            read(reader, sent.lstrip().startswith(b"HEAD"), found)
        except (OSError, ValueError, IndexError) as error:
            found.broken = type(error).__name__
        sock.settimeout(0.15)
        try:
            found.closed = not reader.read(1)
        except TimeoutError:
            pass
        except OSError:
            found.closed = True
    return found


def read(reader: Any, head: bool, found: Answer) -> None:
    while True:
        first = reader.readline().decode("latin-1").rstrip("\r\n")
        if not first:
            raise ValueError("no answer")
        version, status, reason = [*first.split(" ", 2), ""][:3]
        headers = []
        for line in iter(lambda: reader.readline().decode("latin-1").rstrip("\r\n"), ""):
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        if int(status) >= 200 or int(status) == 101:
            break
        found.interim.append(int(status))
    found.status, found.reason, found.headers = int(status), f"{version} {reason}", headers
    known = dict(headers)
    if head or found.status in (204, 304, 101):
        data = b""
    elif known.get("transfer-encoding") == "chunked":
        data = b""
        while size := int(reader.readline(), 16):
            data += reader.read(size)
            reader.readline()
        found.trailers = [line.decode().strip() for line in iter(reader.readline, b"\r\n") if line]
    elif "content-length" in known:
        data = reader.read(int(known["content-length"]))
        if len(data) < int(known["content-length"]):
            found.broken = "cut"
    else:
        data = reader.read()
    found.body = data.decode("latin-1")
    for text in (found.body, known.get("x-saw", "")):
        with contextlib.suppress(ValueError):
            if isinstance(said := json.loads(text), dict):
                found.saw = said


# comparing


def fields(answer: Answer) -> dict[str, Any]:
    """What is compared, with what is drawn or measured left out."""
    headers = sorted(
        (n, "*" if n in EXPOSED else v) for n, v in answer.headers if n not in ("x-saw", "content-length")
    )
    told: dict[str, Any] = {
        "status": answer.status,
        "interim": answer.interim,
        "closed": answer.closed,
        "broken": answer.broken,
        "trailers": answer.trailers,
    }
    told["headers"] = headers
    if not answer.saw:
        told["body"] = answer.body
        told["length"] = dict(answer.headers).get("content-length", "")
    for key, value in answer.saw.items():
        told["saw " + key] = (
            sorted((n, "*" if n in DRAWN and v != "my-own" else v) for n, v in value) if key == "headers" else value
        )
    return told


def differences(ours: Answer, theirs: Answer) -> dict[str, tuple[Any, Any]]:
    a, b = fields(ours), fields(theirs)
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if x != y and key.endswith("headers"):
            left, right = [tuple(p) for p in x or ()], [tuple(p) for p in y or ()]
            found[key] = ([p for p in left if p not in right], [p for p in right if p not in left])
        elif x != y:
            found[key] = (x, y)
    return found


@contextmanager
def running(folder: Path) -> Iterator[tuple[tuple[str, int], tuple[str, int], str]]:
    """Our address, Envoy's, and the client's source."""
    with ExitStack() as stack:
        lab = stack.enter_context(ProxyLab(folder))
        server = lab.server("orders-v1", serve=Server().serve, app="orders")
        lab.service(HOST, server)
        lab.service("nobody")
        closed = lab.server("closed", port=9, serve=False)
        lab.service("refused", closed)
        client = lab.pod("client", app="client")
        ref = ObjectRef("VirtualService", "default", "beside")
        route = mesh.Route(ref, mesh.Dialect.ISTIO, (OWN,), tuple(both.rule for both in RULES))
        lab.routing(mesh.HostRouting(OWN, "default/orders", (route,)))
        lab.start()
        listen = free_port()
        routes = [{"match": both.match, **both.envoy} for both in RULES]
        clusters = [
            cluster("orders", (server.ip, server.port)),
            cluster("nobody", None),
            cluster("refused", (closed.ip, 9)),
        ]
        text = ENVOY.format(
            listen=listen, types=envoy.TYPES, routes=json.dumps(routes), clusters=json.dumps(clusters)
        )
        (folder / "beside.yaml").write_text(text)
        words = [
            str(envoy.binary()),
            "-c",
            str(folder / "beside.yaml"),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "error",
        ]
        process = subprocess.Popen(words)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        wait_listening("127.0.0.1", listen)
        yield lab.listeners[HOST], ("127.0.0.1", listen), client.ip


def compare() -> dict[str, dict[str, tuple[Any, Any]]]:
    found = {}
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as (ours, theirs, source):
        for number, case in enumerate(CASES):
            answers = [
                ask(address, source, case.sent.replace(b"KEY", b"%d-%d" % (number, side)))
                for side, address in enumerate((ours, theirs))
            ]
            found[case.name] = differences(*answers)
    return found
