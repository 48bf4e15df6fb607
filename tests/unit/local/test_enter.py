"""Which pod is meant."""

from __future__ import annotations

import pytest

from weft.daemon.cli.failure import Failure
from weft.daemon.local.enter import find_pod
from weft.daemon.local.state import PodState, State

PODS = (
    PodState("shop", "web-1-a", workload="Deployment shop/web"),
    PodState("shop", "web-1-b", workload="Deployment shop/web", ready=True),
    PodState("default", "client", workload="Pod default/client", ready=True),
)
NOW = State(pods={f"{pod.namespace}/{pod.name}": pod for pod in PODS})


@pytest.mark.parametrize(
    ("namespace", "name", "found"),
    [
        ("shop", "web-1-a", "web-1-a"),
        ("shop", "pod/web-1-a", "web-1-a"),
        ("shop", "web", "web-1-b"),
        ("shop", "deploy/web", "web-1-b"),
        ("default", "shop/web", "web-1-b"),
        ("default", "shop/web-1-a", "web-1-a"),
        ("default", "client", "client"),
    ],
)
def test_names_that_people_type(namespace: str, name: str, found: str) -> None:
    assert find_pod(NOW, namespace, name).name == found


def test_a_name_of_nobody_is_told_with_those_there_are() -> None:
    with pytest.raises(Failure, match=r"no pod default/web.*shop/web-1-a"):
        find_pod(NOW, "default", "web")
