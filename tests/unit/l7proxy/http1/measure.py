"""What the codecs cost: a GET of 7 fields through server and client codec and its answer back, in memory; no figure
is asserted. `PYTHONPATH=.src:tests/support .venv/bin/python tests/unit/l7proxy/http1/measure.py [--profile]`"""

from __future__ import annotations

import cProfile
import gc
import sys
import timeit
from collections.abc import Callable

from http1_peers import PEER, Clock, Pipe, Wire
from weft.l7proxy.core.http1 import Client, Server, requests, responses, writer
from weft.l7proxy.core.limits import DEFAULTS

REQUEST = (
    b"GET /orders/123?x=1 HTTP/1.1\r\nHost: orders.default.svc:8080\r\nUser-Agent: curl/8.1\r\nAccept: */*\r\n"
    b"X-Request-Id: 5b9a1f3e-0000-4000-8000-000000000001\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01\r\nCookie: session=0123456789\r\n\r\n"
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    b"Date: Fri, 20 Nov 2026 22:00:00 GMT\r\nServer: x\r\n\r\n"
)


def best(step: Callable[[], object]) -> float:
    """Microseconds of the quietest of many short rounds: the machine is shared."""
    return min(timeit.repeat(step, number=300, repeat=300)) / 300 * 1e6


def main() -> None:
    down, up, clock = Wire(), Wire(), Clock()
    client = Client(up, DEFAULTS, clock)
    server = Server(down, Pipe(client), PEER, DEFAULTS, clock)

    def echo() -> None:
        server.receive(REQUEST)
        up.writes.clear()
        client.receive(HEAD + b"ok")
        down.writes.clear()

    request, response = requests.parse(REQUEST, DEFAULTS)[0], responses.parse(HEAD, b"GET", DEFAULTS)[0]
    rows: list[tuple[str, Callable[[], object]]] = [
        ("parse request", lambda: requests.parse(REQUEST, DEFAULTS)),
        ("format request", lambda: writer.request_head(request, True)),
        ("parse response", lambda: responses.parse(HEAD, b"GET", DEFAULTS)),
        ("format response", lambda: writer.response_head(response, request, False, False)),
        ("whole way, both codecs, with the test's pipe", echo),
    ]
    for name, step in rows:
        print(f"{best(step):6.2f} us  {name}")
    gc.collect()
    for _ in range(1000):
        echo()
    print(f"{gc.collect():6d}     objects in cycles after 1000 requests")
    if "--profile" in sys.argv:
        cProfile.runctx("for _ in range(50_000): echo()", {}, {"echo": echo}, sort="tottime")


if __name__ == "__main__":
    main()
