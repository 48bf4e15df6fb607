"""Sockets in the network namespaces of a live cluster's pods, for tests that hold connections themselves.

    with Inside("wt-routes").connect("default/client", "10.96.0.5", 80) as sock: ...

A socket belongs to the namespace that it was made in, whoever uses it: for policy and for servers it is the pod's.
Only Services that nothing needs the proxy for cannot be reached so: their balancing is the cgroup's programs'.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Inside:
    cluster: str

    def namespace(self, pod: str) -> Path:
        namespace, _, name = pod.rpartition("/")
        (found,) = Path("/run/netns").glob(f"{self.cluster}*{namespace or 'default'}_{name}")
        return found

    def connect(self, pod: str, address: str, port: int, timeout: float = 5.0) -> socket.socket:
        sock = self.socket(pod, socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            sock.settimeout(timeout)
            sock.connect((address, port))
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def socket(self, pod: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        made: list[socket.socket] = []
        failed: list[BaseException] = []
        path = self.namespace(pod)

        def make() -> None:  # a thread of its own: it never comes back from there
            try:
                with path.open() as file:
                    if _libc.setns(file.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                made.append(socket.socket(family, kind))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def http(self, pod: str, address: str, port: int = 80, timeout: float = 10.0) -> http.client.HTTPConnection:
        """Connected. The Host header is the caller's to give, else the address."""
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        connection.sock = self.connect(pod, address, port, timeout)
        return connection
