"""Runs in every pod of the live tests: answers on its ports, and connects where it is told.

argv: the unix socket to take orders on (the file system is shared, so policy cannot cut the orders off), then
the ports. One order a connection, one JSON line: a list of [address, port, protocol, timeout seconds]; the
answer is a JSON list: "ok", or why not. Protocol "http" has a fifth word, a list of requests ({"method", "path",
"headers": [[name, value], ...]}) that go over one connection; its answer is a list of {"status", "body"}, cut short
by {"error"}. An object instead of a list orders a load (see there). What looks like HTTP is answered as HTTP, with
what the server saw. Standard library only, for it runs under whatever python there is.
"""

import json
import os
import selectors
import socket
import struct
import sys
import threading
import time


def serve(ports):
    waiting = selectors.DefaultSelector()
    for port in ports:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(socket.AF_INET6, kind)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                sock.listen(128)
            waiting.register(sock, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            sock = key.fileobj
            if sock.type == socket.SOCK_DGRAM:
                data, peer = sock.recvfrom(64)
                sock.sendto(b"echo " + data, peer)
            else:
                client, _ = sock.accept()
                threading.Thread(target=echo, args=(client,), daemon=True).start()


def echo(client):
    with client:
        client.settimeout(60)
        try:
            while data := client.recv(64):
                if b" /" in data[:32] and data[:1].isalpha():
                    return speak(client, data)
                client.sendall(b"echo " + data)
        except OSError:
            pass


def speak(client, data):
    """HTTP/1.1, one request without a body after the other."""
    while True:
        while b"\r\n\r\n" not in data:
            more = client.recv(4096)
            if not more:
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        told = {
            "line": line,
            "headers": [[part.strip() for part in field.split(":", 1)] for field in fields],
            "peer": client.getpeername()[:2],
        }
        body = json.dumps(told).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
        client.sendall(head if line.startswith("HEAD ") else head + body)


def converse(address, port, timeout, requests):
    """The requests' answers, over one connection."""
    answers = []
    try:
        with socket.create_connection((address, port), timeout) as sock, sock.makefile("rb") as lines:
            for request in requests:
                fields = "".join(f"{name}: {value}\r\n" for name, value in request["headers"])
                sock.sendall(f"{request['method']} {request['path']} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))
                answers.append(answer(lines, request["method"]))
    except OSError as error:
        answers.append({"error": type(error).__name__ + ": " + str(error)})
    return answers


def answer(lines, method):
    line = lines.readline()
    if not line:
        raise ConnectionError("closed")
    size = 0
    while (field := lines.readline().strip()) != b"":
        name, _, value = field.partition(b":")
        size = int(value) if name.lower() == b"content-length" else size
    body = b"" if method == "HEAD" else lines.read(size)
    return {"status": int(line.split()[1]), "body": body.decode("latin-1")}


def probe(address, port, protocol, timeout, requests=()):
    try:
        if protocol == "http":
            return converse(address, port, timeout, requests)
        if protocol == "ping":
            return ping(address, timeout)
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as sock:
            sock.settimeout(timeout)
            sock.connect((address, port))
            sock.send(b"hello")
            return "ok" if sock.recv(64) == b"echo hello" else "a wrong answer"
    except OSError as error:
        return type(error).__name__ + ": " + str(error)


def ping(address, timeout):
    six = ":" in address
    family, protocol = (
        (socket.AF_INET6, socket.getprotobyname("ipv6-icmp")) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    )
    mark = os.urandom(2)
    body = mark + b"\0\1weft"
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        sock.settimeout(timeout)
        head = bytes([128 if six else 8, 0])
        sock.sendto(head + (b"\0\0" if six else checksum(head + b"\0\0" + body)) + body, (address, 0))
        while True:
            answer = sock.recv(256)
            answer = answer if six else answer[(answer[0] & 15) * 4 :]
            if answer[0] == (129 if six else 0) and answer[4:6] == mark:
                return "ok"


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


def load(address, port, seconds, connections, timeout, expect):
    """For so many seconds: `connections` that stay open and echo every 10 ms, and as many new ones after one
    another. expect "open": whatever fails is reported; "shut": whatever gets through is."""
    told = {"opened": 0, "echoes": 0, "wrong": []}
    until = time.monotonic() + seconds
    workers = [
        threading.Thread(target=work, args=(address, port, until, timeout, told))
        for work in [opener] * connections + ([keeper] * connections if expect == "open" else [])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if expect == "shut":
        told["wrong"] = [f"{told['opened']} connections got through"] if told["opened"] else []
    return told


def opener(address, port, until, timeout, told):
    while time.monotonic() < until:
        answer = probe(address, port, "tcp", timeout)
        if answer == "ok":
            told["opened"] += 1
        else:
            told["wrong"].append("open: " + answer)
        time.sleep(0.01)


def keeper(address, port, until, timeout, told):
    try:
        with socket.create_connection((address, port), timeout) as sock:
            while time.monotonic() < until:
                sock.sendall(b"still here")
                if sock.recv(64) != b"echo still here":
                    raise OSError("a wrong answer")
                told["echoes"] += 1
                time.sleep(0.01)
    except OSError as error:
        told["wrong"].append(f"kept: {type(error).__name__}: {error}")


def obey(path):
    if os.path.exists(path):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(16)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=order, args=(client,), daemon=True).start()


def order(client):
    with client, client.makefile("rw") as lines:
        orders = json.loads(lines.readline())
        if isinstance(orders, dict):
            lines.write(json.dumps(load(**orders)) + "\n")
            return
        answers = ["not tried"] * len(orders)

        def one(i):
            answers[i] = probe(*orders[i])

        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(orders))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines.write(json.dumps(answers) + "\n")
        lines.flush()


if __name__ == "__main__":
    threading.Thread(target=obey, args=(sys.argv[1],), daemon=True).start()
    serve([int(port) for port in sys.argv[2:]])
