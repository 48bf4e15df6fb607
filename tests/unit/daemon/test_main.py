"""The command line of the daemon, and where its things are."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.daemon import cgroups
from weft.daemon.main import address, parser, settings_of


def test_a_plain_machine_needs_no_option() -> None:
    settings = settings_of(parser().parse_args(["--node", "n1"]))
    assert settings.pin_dir == Path("/sys/fs/bpf/weft/n1") and settings.snapshot == Path(
        "/var/lib/weft/n1/snapshot.bin"
    )
    assert settings.operator == "" and settings.cgroup is None and settings.metrics is None and settings.dns == ()


def test_the_options_of_a_local_cluster() -> None:
    words = "--node n --run-dir /run/c/n --operator unix:/run/c/operator.sock --dns 10.96.0.10 fd00:10:96::a"
    settings = settings_of(parser().parse_args([*words.split(), "--metrics", "172.30.0.1:9964", "--audit"]))
    assert settings.socket == Path("/run/c/n/daemon.sock") and settings.dns == ("10.96.0.10", "fd00:10:96::a")
    assert settings.metrics == ("172.30.0.1", 9964) and settings.audit


@pytest.mark.parametrize(
    ("text", "parsed"), [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:9", ("::1", 9)), (":80", ("", 80))]
)
def test_an_address_to_listen_on(text: str, parsed: tuple[str, int]) -> None:
    assert address(text) == parsed


def test_the_options_of_the_proxy() -> None:
    settings = settings_of(parser().parse_args(["--node", "n"]))
    assert (settings.proxy_workers, settings.proxy_mark, settings.proxy_port) == (1, 0x800, 15001)
    words = [
        "--proxy-workers",
        "4",
        "--proxy-mark",
        "0x1000",
        "--proxy-port",
        "16001",
        "--proxy-program",
        "a 'b c'",
    ]
    settings = settings_of(parser().parse_args(words))
    assert (settings.proxy_workers, settings.proxy_mark, settings.proxy_port) == (4, 0x1000, 16001)
    assert settings.proxy_program == ("a", "b c")


@pytest.mark.parametrize(
    "words",
    [
        ["--metrics", "9964"],
        ["--metrics", "host:x"],
        ["--log-level", "loud"],
        ["--nod"],
        ["--proxy-workers", "-1"],
        ["--proxy-workers", "65"],
        ["--proxy-mark", "0x3"],
        ["--proxy-mark", "0"],
        ["--proxy-mark", "0x100000000"],
        ["--proxy-port", "0"],
        ["--proxy-port", "61000"],
    ],
)
def test_what_is_asked_wrongly_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(words)
    assert end.value.code == 2 and "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "/sys/fs/cgroup"),
        (
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            "/sys/fs/cgroup/unified",
        ),
        ("x /with\\040space cgroup2 rw 0 0\n", "/with space"),
        ("proc /proc proc rw 0 0\n", None),
    ],
    ids=["version 2", "hybrid", "a space in its name", "none"],
)
def test_where_control_groups_are(tmp_path: Path, mounts: str, found: str | None) -> None:
    file = tmp_path / "mounts"
    file.write_text(mounts)
    assert cgroups.mount_point(file) == (Path(found) if found else None)
