"""One service of the demo's shop: `shop.py NAME [PORT]`, 8080 if it names none.

Answers every GET with JSON: who it is, and what the service behind it (the URL in NEXT, if there is one) answered.
/healthz does not ask further. Standard library only.
"""

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = sys.argv[1]
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
NEXT = os.environ.get("NEXT", "")


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4: the socket is dual-stack
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)  # not the base's, which asks DNS who we are


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: two would wait for each other's acknowledgement

    def do_GET(self):
        answer = {"service": NAME, "pod": socket.gethostname(), "from": self.client_address[0]}
        status = 200
        if NEXT and self.path != "/healthz":
            status, answer["then"] = ask(NEXT)
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        if self.path != "/healthz":
            print(f"{self.client_address[0]} {format % arguments}")


def ask(url):
    """Status and answer; what cannot be reached is a bad gateway that says why."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 502, {"error": f"{url}: {error}"}


if __name__ == "__main__":
    Server(("::", PORT), Handler).serve_forever()
