"""What a local cluster says that it does not do."""

from __future__ import annotations

from typing import Any

import pytest

from weft.daemon.local.notes import note, notes
from weft.policies.model import ObjectRef

REF = ObjectRef("Service", "shop", "web")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"ports": [{"port": 80}]}, ""),
        ({"clusterIP": "None"}, ""),
        ({"type": "NodePort"}, "node ports are not served"),
        ({"type": "LoadBalancer"}, "node ports are not served"),
        ({"type": "ExternalName", "externalName": "example.com"}, "names outside the cluster"),
        ({"externalIPs": ["192.0.2.1"]}, "externalIPs"),
        ({"sessionAffinity": "ClientIP"}, "sessionAffinity"),
        ({"internalTrafficPolicy": "Local"}, "internalTrafficPolicy"),
    ],
)
def test_a_service_that_asks_for_more(spec: dict[str, Any], said: str) -> None:
    text = note(REF, {"kind": "Service", "spec": spec})
    assert said in text
    assert bool(text) == bool(said)


def test_kinds_that_nobody_reads_are_told_once_each_and_the_others_not() -> None:
    kinds = ("Ingress", "Widget", "ConfigMap", "Secret", "ServiceAccount", "Deployment", "Pod", "NetworkPolicy")
    found = notes({ObjectRef(kind, "shop", "x"): {"kind": kind} for kind in kinds})
    assert set(found) == {"Ingress shop/x", "Widget shop/x"}
    assert "ignored" in found["Widget shop/x"]
