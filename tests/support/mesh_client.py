"""A pod's HTTP client, told by JSON in its argument and answering by JSON lines on standard output.

`{"url", "method", "headers", "body", "count", "concurrency", "timeout"}`: `count` requests over `concurrency`
connections that are kept alive. Each answer: `{"status", "headers", "json" or "body", "seconds", "error"}`.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

order = json.loads(sys.argv[1])
url = urlsplit(order["url"])
path = url.path + (f"?{url.query}" if url.query else "")


def batch(count: int) -> list[dict[str, object]]:
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=order.get("timeout", 20))
    return [one(connection) for _ in range(count)]


def one(connection: http.client.HTTPConnection) -> dict[str, object]:
    started = time.monotonic()
    told: dict[str, object] = {"status": 0}
    try:
        body = order.get("body")
        connection.request(order.get("method", "GET"), path, body, order.get("headers", {}))
        response = connection.getresponse()
        data = response.read()
        told |= {"status": response.status, "headers": {k.lower(): v for k, v in response.getheaders()}}
        try:
            told["json"] = json.loads(data)
        except ValueError:
            told["body"] = data.decode("latin-1")[:2000]
    except (OSError, http.client.HTTPException) as error:
        told["error"] = f"{type(error).__name__}: {error}"
        connection.close()
    told["seconds"] = time.monotonic() - started
    return told


count, workers = order.get("count", 1), order.get("concurrency", 1)
shares = [count // workers + (i < count % workers) for i in range(workers)]
with ThreadPoolExecutor(workers) as pool:
    for answers in pool.map(batch, shares):
        for answer in answers:
            print(json.dumps(answer))
