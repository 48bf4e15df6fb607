"""Pod manifests to what this machine must run; mistakes with their path."""

from __future__ import annotations

from typing import Any

import pytest

from weft.daemon.local.environment import Facts, NotYet, expand, source_data
from weft.daemon.local.launch import CAPABILITIES
from weft.daemon.local.manifests import Check, Container, PodSpec, Port, read_pod
from weft.policies.errors import Invalid

FACTS = Facts("node-1", "172.30.0.1", ("10.244.1.2", "fd00:10:244:1::2"))


def read(container: dict[str, Any] | None = None, images: dict[str, str] | None = None, **spec: Any) -> PodSpec:
    metadata = {"name": "p", "namespace": "default", "labels": {"app": "p"}}
    one = {"name": "c", "image": "shop/web:1", "command": ["serve"], **(container or {})}
    return read_pod({"metadata": metadata, "spec": {"containers": [one], **spec}}, images or {}, FACTS)


def container(fields: dict[str, Any], images: dict[str, str] | None = None) -> Container:
    return read(fields, images).containers[0]


def test_a_command_and_its_arguments() -> None:
    assert container({"args": ["-p", "80"]}).argv == ("serve", "-p", "80")


@pytest.mark.parametrize(
    "fields, images, argv, warned",
    [
        pytest.param({"command": None}, {}, (), True, id="neither: the echo server"),
        pytest.param({"command": None, "args": ["x"]}, {}, (), True, id="arguments alone start nothing"),
        pytest.param(
            {"command": None}, {"shop/web:1": "run 'a b'"}, ("run", "a b"), False, id="an image's command"
        ),
        pytest.param(
            {"command": None, "args": ["x"]}, {"shop/web:1": "run"}, ("run", "x"), False, id="and arguments"
        ),
        pytest.param({}, {"shop/web:1": "run"}, ("serve",), False, id="a command goes before an image's"),
    ],
)
def test_what_runs(fields: dict[str, Any], images: dict[str, str], argv: tuple[str, ...], warned: bool) -> None:
    spec = read(fields, images)
    assert spec.containers[0].argv == argv
    assert any("echo server" in warning for warning in spec.warnings) == warned


@pytest.mark.parametrize(
    "text, expanded",
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B)", "$(B)"),
        ("$A ${A} $(A", "$A ${A} $(A"),
        ("$(echo x)", "$(echo x)"),
    ],
)
def test_references(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_the_environment_is_read_in_order() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "URL", "value": "http://$(IP):$(LATER)"},
        {"name": "LATER", "value": "9"},
        {"name": "EMPTY"},
    ]
    found = dict(container({"env": env, "args": ["$(URL)", "$(LATER)"]}).env)
    assert found["IPS"] == "10.244.1.2,fd00:10:244:1::2" and found["URL"] == "http://10.244.1.2:$(LATER)"
    assert (found["NODE"], found["HOST"], found["APP"], found["EMPTY"]) == ("node-1", "172.30.0.1", "p", "")
    assert container({"env": env, "args": ["$(LATER)"]}).argv == ("serve", "9")


def test_probes() -> None:
    ports = [{"name": "web", "containerPort": 8080}]
    get = {
        "httpGet": {"port": "web", "path": "up", "httpHeaders": [{"name": "X", "value": "y"}]},
        "periodSeconds": 2,
    }
    found = container({"ports": ports, "readinessProbe": get, "livenessProbe": {"tcpSocket": {"port": 81}}})
    assert found.ports == (Port("web", 8080, "TCP"),)
    assert found.readiness and found.readiness.check == Check("httpGet", 8080, "", "/up", False, (("X", "y"),))
    assert (found.readiness.period, found.readiness.timeout, found.readiness.failures) == (2, 1, 3)
    assert found.liveness and found.liveness.check == Check("tcpSocket", 81)


def test_capabilities_as_containers_have_them() -> None:
    assert container({}).capabilities == tuple(sorted(CAPABILITIES.values()))
    assert container({"securityContext": {"privileged": True}}).capabilities is None
    only = {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}
    assert container({"securityContext": only}).capabilities == (12,)


@pytest.mark.parametrize(
    "fields, path",
    [
        pytest.param({"name": ""}, "spec.containers[0].name", id="a container without a name"),
        pytest.param({"command": "serve"}, "spec.containers[0].command", id="a command that is no list"),
        pytest.param({"command": [1]}, "spec.containers[0].command", id="a word that is no text"),
        pytest.param({"env": [{"value": "x"}]}, "spec.containers[0].env[0].name", id="a variable without a name"),
        pytest.param(
            {"env": [{"name": "A", "value": 1}]}, "spec.containers[0].env[0].value", id="a number, unquoted"
        ),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]},
            "spec.containers[0].env[0].valueFrom",
            id="secrets",
        ),
        pytest.param(
            {"ports": [{"containerPort": 0}]}, "spec.containers[0].ports[0].containerPort", id="port nought"
        ),
        pytest.param({"readinessProbe": {}}, "spec.containers[0].readinessProbe", id="a probe of no kind"),
        pytest.param(
            {"readinessProbe": {"httpGet": {"port": "nope"}}},
            "spec.containers[0].readinessProbe.httpGet.port",
            id="no such port",
        ),
        pytest.param(
            {"livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 0}},
            "spec.containers[0].livenessProbe.periodSeconds",
            id="a probe without pause",
        ),
        pytest.param(
            {"securityContext": {"capabilities": {"add": ["FLY"]}}},
            "spec.containers[0].securityContext.capabilities.add",
            id="a capability nobody knows",
        ),
    ],
)
def test_a_mistake_has_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(fields)
    assert (refused.value.where.object, refused.value.where.path) == ("Pod default/p", path)


@pytest.mark.parametrize(
    "spec, path",
    [
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
        ({"containers": []}, "spec.containers"),
        ({"containers": "x"}, "spec.containers"),
        ({"terminationGracePeriodSeconds": -1}, "spec.terminationGracePeriodSeconds"),
    ],
)
def test_a_mistake_of_the_pod_has_its_path(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        read({}, None, **spec)
    assert refused.value.where.path == path


def test_what_a_local_cluster_has_not_is_a_warning() -> None:
    spec = read({}, volumes=[{"name": "data"}])
    assert any("volumes" in warning and "data" in warning for warning in spec.warnings)


SOURCES = {
    ("ConfigMap", "settings"): {"MODE": "fast", "LEVEL": "3"},
    ("Secret", "keys"): {"TOKEN": "s3cret"},
}


def env_of(**fields: Any) -> dict[str, str]:
    facts = Facts(sources=lambda kind, name: SOURCES.get((kind, name)))
    manifest = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "command": ["x"], **fields}]}}
    return dict(read_pod(manifest, {}, facts).containers[0].env)


def test_the_environment_from_config_maps_and_secrets() -> None:
    found = env_of(
        envFrom=[{"configMapRef": {"name": "settings"}}, {"prefix": "K_", "secretRef": {"name": "keys"}}],
        env=[
            {"name": "LEVEL", "value": "4"},
            {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "MODE"}}},
            {"name": "TWO", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "X", "optional": True}}},
        ],
    )
    assert found == {"MODE": "fast", "LEVEL": "4", "K_TOKEN": "s3cret", "ONE": "fast", "TWO": "s3cret"}


@pytest.mark.parametrize(
    "fields",
    [
        {"envFrom": [{"configMapRef": {"name": "nobody"}}]},
        {"envFrom": [{"secretRef": {"name": "settings"}}]},
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "nothing"}}}]},
    ],
)
def test_a_source_that_is_not_there_is_waited_for(fields: dict[str, Any]) -> None:
    with pytest.raises(NotYet):
        env_of(**fields)


def test_an_optional_source_may_be_missing() -> None:
    assert env_of(envFrom=[{"configMapRef": {"name": "nobody", "optional": True}}]) == {}


def test_the_data_of_a_secret_is_decoded_and_plain_strings_win() -> None:
    manifest = {"kind": "Secret", "data": {"a": "eA==", "b": "!", "c": "eA=="}, "stringData": {"c": "z"}}
    assert source_data(manifest) == {"a": "x", "c": "z"}
