"""What a Pod manifest asks of this machine: containers as commands, with their environment and probes. Pure.

The operator has parsed the Pod for policy; this reads the parts that only who runs it needs. A mistake is
`Invalid` with the path; what a local cluster cannot give (volumes, secrets) is a warning.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weft.daemon.local.launch import CAPABILITIES, MORE_CAPABILITIES
from weft.policies.errors import Invalid, Where

EXTERNAL = "weft.dev/external-address"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.][A-Za-z0-9_.-]*)\)")


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


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a pod only once it is placed; fieldRefs are answered from it."""

    node: str
    node_ip: str
    ips: tuple[str, ...]


class _Reader:
    def __init__(self, manifest: Mapping[str, Any], images: Mapping[str, str]) -> None:
        self.metadata: Mapping[str, Any] = manifest["metadata"]
        self.spec: Mapping[str, Any] = manifest.get("spec") or {}
        self.object = f"Pod {self.metadata.get('namespace', 'default')}/{self.metadata['name']}"
        self.images = images
        self.warnings: list[str] = []

    def refuse(self, path: str, reason: str) -> Invalid:
        return Invalid(Where(object=self.object, path=path), reason)

    def number(self, value: Any, path: str, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.refuse(path, f"expected a number from {low} to {high}")
        return value

    def mappings(self, value: Any, path: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The mappings of a list, each with its path; null is the empty list."""
        if not isinstance(value or [], list) or not all(isinstance(each, dict) for each in value or []):
            raise self.refuse(path, "expected a list of mappings")
        return [(f"{path}[{i}]", each) for i, each in enumerate(value or [])]

    def strings(self, value: Any, path: str) -> tuple[str, ...]:
        if not isinstance(value or [], list) or not all(isinstance(each, str) for each in value or []):
            raise self.refuse(path, "expected a list of strings")
        return tuple(value or ())


def read_pod(manifest: Mapping[str, Any], images: Mapping[str, str], facts: Facts) -> PodSpec:
    """`images`: image -> command line, of `--image`. Raises Invalid."""
    reader = _Reader(manifest, images)
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


def _containers(reader: _Reader, key: str, facts: Facts) -> tuple[Container, ...]:
    return tuple(
        _container(reader, each, path, facts) for path, each in reader.mappings(reader.spec.get(key), f"spec.{key}")
    )


def _container(reader: _Reader, value: Mapping[str, Any], path: str, facts: Facts) -> Container:
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise reader.refuse(f"{path}.name", "a container needs a name")
    ports = tuple(_port(reader, each, at) for at, each in reader.mappings(value.get("ports"), f"{path}.ports"))
    env = _environment(reader, value, path, facts)
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


def _port(reader: _Reader, value: Mapping[str, Any], path: str) -> Port:
    number = reader.number(value.get("containerPort"), f"{path}.containerPort", 1, 65535)
    return Port(str(value.get("name") or ""), int(number), str(value.get("protocol") or "TCP"))


def _capabilities(reader: _Reader, context: Mapping[str, Any], path: str) -> tuple[int, ...] | None:
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


def _environment(reader: _Reader, value: Mapping[str, Any], path: str, facts: Facts) -> tuple[tuple[str, str], ...]:
    if value.get("envFrom"):
        reader.warnings.append(f"{path}.envFrom is not read: a local cluster has no ConfigMaps or Secrets")
    env: dict[str, str] = {}
    for at, each in reader.mappings(value.get("env"), f"{path}.env"):
        name = each.get("name")
        if not isinstance(name, str) or not name or "=" in name:
            raise reader.refuse(f"{at}.name", "expected the name of a variable")
        if each.get("valueFrom") is not None:
            env[name] = _field(reader, each["valueFrom"], f"{at}.valueFrom", facts)
        else:
            plain = each.get("value")
            if not isinstance(plain if plain is not None else "", str):
                raise reader.refuse(f"{at}.value", "expected a string: quote it")
            env[name] = expand(plain or "", env)
    return tuple(env.items())


def _field(reader: _Reader, source: Any, path: str, facts: Facts) -> str:
    wanted = source.get("fieldRef", {}).get("fieldPath") if isinstance(source, dict) else None
    metadata = reader.metadata
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", "default"),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": facts.node,
        "spec.serviceAccountName": reader.spec.get("serviceAccountName") or "default",
        "status.podIP": facts.ips[0] if facts.ips else "",
        "status.podIPs": ",".join(facts.ips),
        "status.hostIP": facts.node_ip,
    }
    if wanted in fields:
        return str(fields[wanted])
    if named := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", str(wanted)):
        return str((metadata.get(named[1]) or {}).get(named[2], ""))
    raise reader.refuse(path, "a local cluster knows fieldRef of " + ", ".join(fields) + ", labels and annotations")


def expand(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) becomes its value, `$$` one `$`; what is not known stays as it is, as Kubernetes has it."""

    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else env.get(found[1], found[0])

    return _REFERENCE.sub(one, text)


def _probe(reader: _Reader, value: Any, path: str, ports: tuple[Port, ...]) -> Probe | None:
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


def _check_of(reader: _Reader, value: Mapping[str, Any], path: str, ports: tuple[Port, ...]) -> Check:
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


def _probed_port(reader: _Reader, value: Any, path: str, ports: tuple[Port, ...]) -> int:
    if isinstance(value, str) and not value.isdigit():
        for port in ports:
            if port.name == value:
                return port.port
        raise reader.refuse(path, f"the container has no port named {value}")
    return int(reader.number(int(value) if isinstance(value, str) else value, path, 1, 65535))
