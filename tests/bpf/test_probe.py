"""What a kernel lacks is told by the kernel: here by one that refuses what we make it refuse."""

from __future__ import annotations

import errno
import os

import pytest

from weft.bpf import abi, probe
from weft.bpf.sys import syscall

pytestmark = pytest.mark.root


def test_this_kernel_has_all_that_is_needed() -> None:
    assert probe.missing(needed_only=True) == []


def test_probing_leaves_nothing_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    probe.missing()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("feature", probe.FEATURES, ids=lambda feature: feature.name)
def test_a_feature_that_the_kernel_refuses_is_named(
    feature: probe.Feature, monkeypatch: pytest.MonkeyPatch
) -> None:
    if feature.name == "the kernel's own BTF":
        pytest.skip("a file, not a call")

    def refuse(command: abi.Command, attributes: bytearray) -> int:
        return -errno.EINVAL

    monkeypatch.setattr(syscall, "call", refuse)
    assert str(feature) in probe.missing()


def test_a_caller_that_may_not_ask_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall, "call", lambda command, attributes: -errno.EPERM)
    with pytest.raises(PermissionError):
        probe.missing()
