"""What a daemon is told at its start, and where its things are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """`run_dir` holds our sockets. `operator` is a gRPC target; "": none, the snapshot on disk is all there is.
    `cgroup` None: sockets are neither balanced nor watched. `dns` empty: no names are served.
    `pod_start_guarded`: nothing starts here before its policy is in force; only told, in the status.
    `proxy_workers` 0: no L7 proxy on this node. `proxy_mark`: the bit of fwmark that means "from the proxy";
    `proxy_port`: where it takes redirected connections, on the node's loopback. `proxy_program`: the command that
    is a worker; empty: the weft-l7proxy that came with this daemon."""

    node: str
    run_dir: Path
    pin_dir: Path
    state_dir: Path
    operator: str = ""
    cgroup: Path | None = None
    metrics: tuple[str, int] | None = None
    dns: tuple[str, ...] = ()
    audit: bool = False
    trace_interval_ms: int = 5000
    flows: int = 4095
    pod_start_guarded: bool = False
    proxy_workers: int = 1
    proxy_mark: int = 0x800
    proxy_port: int = 15001
    proxy_program: tuple[str, ...] = ()

    @property
    def socket(self) -> Path:
        return self.run_dir / "daemon.sock"

    @property
    def observer_socket(self) -> Path:
        return self.run_dir / "observer.sock"

    @property
    def proxy_socket(self) -> Path:
        return self.run_dir / "proxy.sock"

    @property
    def snapshot(self) -> Path:
        return self.state_dir / "snapshot.bin"
