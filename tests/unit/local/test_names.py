"""Names: no two things share one, and none is longer than the machine takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.daemon.local import names, teardown
from weft.daemon.local.addresses import NodeNet
from weft.daemon.local.names import Cluster

WEFT = Cluster(Path("/run/weft"))


def test_no_pod_is_called_as_another_or_as_a_node() -> None:
    pairs = [("a", "b-c"), ("a-b", "c"), ("node", "1"), ("underlay", "x")]
    found = {WEFT.pod_netns(*pair) for pair in pairs}
    assert len(found) == 4 and not found & {WEFT.node_netns("node-1"), WEFT.underlay}


def test_long_names_are_cut_and_stay_apart() -> None:
    long = ["x" * 63 + "." + "y" * 180 + end for end in "ab"]
    assert len({names.short(each) for each in long}) == 2
    assert all(len(WEFT.pod_netns("n" * 63, each)) <= names.NAME_MAX for each in long)


def test_a_link_name_fits_the_kernel() -> None:
    assert len(names.link_name("n" * 63, "p" * 253)) <= 15
    assert names.link_name("a", "b-c") != names.link_name("a-b", "c")


def test_a_nodes_numbers() -> None:
    net = NodeNet(17)
    assert net.addresses == ("172.30.0.17", "fd00:172:30::11") and net.pod(255)[1] == "fd00:10:244:11::ff"


def test_only_marked_folders_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "STATE_ROOT", tmp_path / "lib")
    cluster = Cluster(tmp_path / "run" / "wt-unit")
    (cluster.state_dir / "precious").mkdir(parents=True)
    assert teardown.foreign(cluster) == cluster.state_dir
    (cluster.state_dir / "precious").rmdir()
    assert teardown.foreign(cluster) is None
    teardown.mark(cluster)
    assert teardown.foreign(cluster) is None
    teardown.note_netns(cluster, "wt-unit-some_pod")
    assert "wt-unit-some_pod" in teardown.netns_names(cluster)


def test_a_tree_is_removed_with_what_links_point_to_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "f").touch()
    (tree / "a" / "link").symlink_to(outside)
    assert teardown.remove_tree(tree) >= 1
    assert not tree.exists() and (outside / "file").exists()
    assert teardown.remove_tree(tree) == 0
