"""A folder of policies: what is saved there is in force at once, what is broken there changes nothing and shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_cluster import Cluster, running
from truth_cases import FOO_80, S, cnp

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    with running("weft-files", nodes=2, folders=[folder]) as cluster:
        yield cluster


def reached(cluster: Cluster, probe: str) -> bool:
    answers = set(cluster.measure(cluster.expand(probe)[:1], 0.2))
    return answers == {"ok"}


def until(cluster: Cluster, probe: str, expected: bool, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while reached(cluster, probe) != expected:
        assert time.monotonic() < end, f"{probe} is not {'allowed' if expected else 'denied'} after {seconds} s"


def test_a_saved_policy_is_enforced_and_a_removed_one_is_not(cluster: Cluster, folder: Path) -> None:
    assert reached(cluster, "bar > s:80")
    (folder / "foo.yaml").write_text(cnp(FOO_80))
    until(cluster, "bar > s:80", False)
    assert reached(cluster, "foo > s:80")
    (folder / "foo.yaml").unlink()
    until(cluster, "bar > s:80", True)


def test_a_broken_file_keeps_the_last_good_version_and_shows(cluster: Cluster, folder: Path) -> None:
    (folder / "foo.yaml").write_text(cnp(FOO_80))
    until(cluster, "bar > s:80", False)
    (folder / "foo.yaml").write_text(cnp(S + "ingress:\n- fromEndpoints: [{matchLabels: {app: bar}}") + "  ]]]\n")
    time.sleep(0.5)
    assert not reached(cluster, "bar > s:80") and reached(cluster, "foo > s:80")
    status = cluster.weft("status")
    assert status.returncode == 1 and "foo.yaml" in status.stdout, status.stdout
    (folder / "foo.yaml").unlink()
    until(cluster, "bar > s:80", True)
    assert cluster.weft("status").returncode == 0


def test_a_refused_field_is_named_by_its_path(cluster: Cluster, folder: Path) -> None:
    bad = cnp(S + "ingress:\n- toPorts: [{ports: [{port: '80', protocol: TCP}, {port: '99999', protocol: TCP}]}]")
    (folder / "bad.yaml").write_text(bad)
    time.sleep(0.5)
    status = cluster.weft("status").stdout
    assert "spec.ingress[0].toPorts[0].ports[1].port" in status and "bad.yaml" in status, status
    assert reached(cluster, "foo > s:80")
    (folder / "bad.yaml").unlink()
    time.sleep(0.5)
    assert "bad.yaml" not in cluster.weft("status").stdout
