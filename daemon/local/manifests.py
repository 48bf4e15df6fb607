"""What a Pod manifest asks of this machine: containers as commands, with their environment and probes. Pure.

The operator has parsed the Pod for policy; this reads the parts that only who runs it needs. A mistake is
`Invalid` with the path; what a local cluster cannot give (volumes) is a warning.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weft.daemon.local.environment import Facts, environment, expand
from weft.daemon.local.launch import CAPABILITIES, MORE_CAPABILITIES
from weft.daemon.local.reader import Reader

EXTERNAL = "weft.dev/external-address"


@dataclass(frozen=True, slots=True)
class Check:
    """What a probe does. `port` 0: not of that kind."""

    kind: str  # httpGet, tcpSocket, exec
    port: int = 0
    host: str = ""  # "" the pod's address
    path: str = "/"
    https: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """Times in seconds."""

    check: Check
    delay: float = 0
    period: float = 10
    timeout: float = 1
    successes: int = 1
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    port: int
    protocol: str  # TCP, UDP, SCTP


@dataclass(frozen=True, slots=True)
class Container:
    """`argv` empty: Weft's echo server on `ports`. `cwd` "": where `weft local up` was run.
    `capabilities` None: all."""

    name: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    ports: tuple[Port, ...] = ()
    readiness: Probe | None = None
    liveness: Probe | None = None
    startup: Probe | None = None
    capabilities: tuple[int, ...] | None = ()


@dataclass(frozen=True, slots=True)
class PodSpec:
    namespace: str
    name: str
    init: tuple[Container, ...]
    containers: tuple[Container, ...]
    restart: str = "Always"  # Always, OnFailure, Never
    grace: float = 30
    node_name: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    external: tuple[str, ...] = ()  # addresses of a host outside; empty: a workload
    host_network: bool = False
    warnings: tuple[str, ...] = ()


def read_pod(manifest: Mapping[str, Any], images: Mapping[str, str], facts: Facts) -> PodSpec:
    """`images`: image -> command line, of `--image`. Raises Invalid."""
    reader = Reader(manifest, images)
    spec, metadata = reader.spec, reader.metadata
    if volumes := [str(each.get("name")) for _, each in reader.mappings(spec.get("volumes"), "spec.volumes")]:
        reader.warnings.append(f"volumes are not mounted: {', '.join(volumes)}; the pod sees this machine's files")
    restart = spec.get("restartPolicy", "Always")
    if restart not in ("Always", "OnFailure", "Never"):
        raise reader.refuse("spec.restartPolicy", "expected Always, OnFailure or Never")
    containers = _containers(reader, "containers", facts)
    if not containers:
        raise reader.refuse("spec.containers", "a pod needs one container at least")
    grace = spec.get("terminationGracePeriodSeconds")
    return PodSpec(
        namespace=metadata.get("namespace", "default"),
        name=metadata["name"],
        init=_containers(reader, "initContainers", facts),
        containers=containers,
        restart=restart,
        grace=30 if grace is None else reader.number(grace, "spec.terminationGracePeriodSeconds", 0, 3600),
        external=external_addresses(manifest),
        host_network=spec.get("hostNetwork") is True,
        warnings=tuple(reader.warnings),
    )


def external_addresses(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    text = (manifest["metadata"].get("annotations") or {}).get(EXTERNAL, "")
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def _containers(reader: Reader, key: str, facts: Facts) -> tuple[Container, ...]:
    return tuple(
        _container(reader, each, path, facts) for path, each in reader.mappings(reader.spec.get(key), f"spec.{key}")
    )


def _container(reader: Reader, value: Mapping[str, Any], path: str, facts: Facts) -> Container:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise reader.refuse(f"{path}.name", "a container needs a name")
    ports = tuple(_port(reader, each, at) for at, each in reader.mappings(value.get("ports"), f"{path}.ports"))
    env = environment(reader, value, path, facts)
    command = reader.strings(value.get("command"), f"{path}.command")
    args = reader.strings(value.get("args"), f"{path}.args")
    image = str(value.get("image") or "")
    if not command and image in reader.images:
        command = tuple(shlex.split(reader.images[image]))
    if not command:
        reader.warnings.append(
            f"container {name} has no command, and no --image {image or 'IMAGE'}=CMD: it runs the echo server"
        )
        args = ()
    return Container(
        name=name,
        argv=tuple(expand(word, dict(env)) for word in (*command, *args)),
        env=env,
        cwd=str(value.get("workingDir") or ""),
        ports=ports,
        readiness=_probe(reader, value.get("readinessProbe"), f"{path}.readinessProbe", ports),
        liveness=_probe(reader, value.get("livenessProbe"), f"{path}.livenessProbe", ports),
        startup=_probe(reader, value.get("startupProbe"), f"{path}.startupProbe", ports),
        capabilities=_capabilities(reader, value.get("securityContext") or {}, path),
    )


def _port(reader: Reader, value: Mapping[str, Any], path: str) -> Port:
    number = reader.number(value.get("containerPort"), f"{path}.containerPort", 1, 65535)
    return Port(str(value.get("name") or ""), int(number), str(value.get("protocol") or "TCP"))


def _capabilities(reader: Reader, context: Mapping[str, Any], path: str) -> tuple[int, ...] | None:
    if context.get("privileged") is True:
        return None
    asked = context.get("capabilities") or {}
    known = CAPABILITIES | MORE_CAPABILITIES
    keep = dict(CAPABILITIES)
    for name in reader.strings(asked.get("drop"), f"{path}.securityContext.capabilities.drop"):
        keep = {} if name == "ALL" else {key: value for key, value in keep.items() if key != name}
    for name in reader.strings(asked.get("add"), f"{path}.securityContext.capabilities.add"):
        if name == "ALL":
            return None
        if name not in known:
            raise reader.refuse(f"{path}.securityContext.capabilities.add", f"unknown capability {name}")
        keep[name] = known[name]
    return tuple(sorted(keep.values()))


def _probe(reader: Reader, value: Any, path: str, ports: tuple[Port, ...]) -> Probe | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise reader.refuse(path, "expected a mapping")

    def number(key: str, default: float, low: float) -> float:
        return default if value.get(key) is None else reader.number(value[key], f"{path}.{key}", low, 86400)

    return Probe(
        check=_check_of(reader, value, path, ports),
        delay=number("initialDelaySeconds", 0, 0),
        period=number("periodSeconds", 10, 1),
        timeout=number("timeoutSeconds", 1, 1),
        successes=int(number("successThreshold", 1, 1)),
        failures=int(number("failureThreshold", 3, 1)),
    )


def _check_of(reader: Reader, value: Mapping[str, Any], path: str, ports: tuple[Port, ...]) -> Check:
    if isinstance(get := value.get("httpGet"), dict):
        headers = tuple(
            (str(each.get("name")), str(each.get("value")))
            for _, each in reader.mappings(get.get("httpHeaders"), f"{path}.httpGet.httpHeaders")
        )
        url = str(get.get("path") or "/")
        port = _probed_port(reader, get.get("port"), f"{path}.httpGet.port", ports)
        secure = get.get("scheme") == "HTTPS"
        return Check(
            "httpGet", port, str(get.get("host") or ""), url if url.startswith("/") else "/" + url, secure, headers
        )
    if isinstance(connect := value.get("tcpSocket"), dict):
        port = _probed_port(reader, connect.get("port"), f"{path}.tcpSocket.port", ports)
        return Check("tcpSocket", port, str(connect.get("host") or ""))
    if isinstance(run := value.get("exec"), dict):
        return Check("exec", command=reader.strings(run.get("command"), f"{path}.exec.command"))
    raise reader.refuse(path, "expected httpGet, tcpSocket or exec")


def _probed_port(reader: Reader, value: Any, path: str, ports: tuple[Port, ...]) -> int:
    if isinstance(value, str) and not value.isdigit():
        for port in ports:
            if port.name == value:
                return port.port
        raise reader.refuse(path, f"the container has no port named {value}")
    return int(reader.number(int(value) if isinstance(value, str) else value, path, 1, 65535))
