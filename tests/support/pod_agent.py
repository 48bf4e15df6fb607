"""Runs in every pod of the live tests: answers on its ports, and connects where it is told.

argv: the unix socket to take orders on (the file system is shared, so policy cannot cut the orders off), then
the ports. One order a connection, one JSON line: a list of [address, port, protocol, timeout seconds]; the
answer is a JSON list: "ok", or why not. An object instead of a list orders a load (see there). Standard library
only, for it runs under whatever python there is.
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
                client.sendall(b"echo " + data)
        except OSError:
            pass


def probe(address, port, protocol, timeout):
    try:
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
