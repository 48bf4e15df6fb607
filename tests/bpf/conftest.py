"""One load of the programs for all tests of this ring; each test finds empty maps, or one workload among them."""

from __future__ import annotations

import pytest

from testkit.bpf import Datapath, datapath, loaded_datapath
from testkit.stage import Stage

__all__ = ["datapath", "loaded_datapath"]


@pytest.fixture
def stage(datapath: Datapath) -> Stage:
    return Stage(datapath)
