"""Numbers for people: bytes, durations, a word with its count."""

from __future__ import annotations

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """38154240 -> 36.4 MiB."""
    for unit in _SIZES:
        if abs(count) < 1024 or unit == _SIZES[-1]:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def span(seconds: float) -> str:
    """174 -> 2m54s; the two largest units."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        number, left = divmod(left, length)
        if number or (parts and len(parts) < 2):
            parts.append(f"{number}{unit}")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"


def count(number: int, one: str, many: str = "") -> str:
    """1 policy, 2 policies."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
