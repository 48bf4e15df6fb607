"""Asks a URL so many times, and prints who answered how often: `ask.py URL TIMES [METHOD [HEADER:VALUE]]`."""

from __future__ import annotations

import http.client
import json
import sys
from collections import Counter
from urllib.parse import urlsplit

url, times, *more = sys.argv[1:]
method, header = (*more, *("GET", "")[len(more) :])
place = urlsplit(url)
connection = http.client.HTTPConnection(place.netloc, timeout=5)
answers: Counter[str] = Counter()
for _ in range(int(times)):
    connection.request(method, place.path or "/", headers=dict([header.split(":", 1)] if header else []))
    response = connection.getresponse()
    body = response.read()
    answers[
        json.loads(body)["service"] if response.status == 200 else f"{response.status} {body.decode().strip()}"
    ] += 1
print(", ".join(f"{count} x {who}" for who, count in sorted(answers.items())))
