from __future__ import annotations

from pathlib import Path

from flow_records import CLIENT
from weft.daemon.observer.workload_cgroups import WorkloadCgroups


def test_a_process_is_known_by_the_folder_of_its_workload(tmp_path: Path) -> None:
    now = [0.0]
    of = WorkloadCgroups(tmp_path, {"default/frontend-1": CLIENT}.get, lambda: now[0])
    (tmp_path / "default_frontend-1").mkdir()
    (tmp_path / "_daemon").mkdir()
    assert of((tmp_path / "default_frontend-1").stat().st_ino) is CLIENT
    assert of((tmp_path / "_daemon").stat().st_ino) is None
    assert of(1) is None


def test_an_unknown_one_is_looked_for_once_a_second(tmp_path: Path) -> None:
    now = [0.0]
    of = WorkloadCgroups(tmp_path, {"default/frontend-1": CLIENT}.get, lambda: now[0])
    assert of(1) is None
    (tmp_path / "default_frontend-1").mkdir()
    inode = (tmp_path / "default_frontend-1").stat().st_ino
    assert of(inode) is None
    now[0] = 1.0
    assert of(inode) is CLIENT


def test_without_a_cgroup_nobody_is_known(tmp_path: Path) -> None:
    assert WorkloadCgroups(None, {}.get)(1) is None
    assert WorkloadCgroups(tmp_path / "gone", {}.get)(1) is None
