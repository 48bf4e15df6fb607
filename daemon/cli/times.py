"""Times as Hubble's command line reads and prints them: Go's layouts, durations that mean "ago". All in UTC, as
nanoseconds since 1970."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

_NS: Final = 1_000_000_000
_UNITS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": _NS, "m": 60 * _NS, "h": 3600 * _NS}
_DURATION: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_ZONE: Final = r"(?P<zone>Z|[+-]\d\d:\d\d)"
_DATE: Final = re.compile(
    rf"(?P<date>\d{{4}}-\d\d-\d\d)(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<part>\d+))?)?)?{_ZONE})?"
)


def duration(text: str) -> int:
    """`1h30m`, `500ms`, `0`, as Go writes durations. ValueError."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not rest or _DURATION.sub("", rest):
        raise ValueError(f"invalid duration {text!r}")
    return sign * sum(round(float(number) * _UNITS[unit]) for number, unit in _DURATION.findall(rest))


def moment(text: str, now_ns: int) -> int:
    """A duration before `now_ns`, or one of the dates that `FORMATS` print. ValueError."""
    try:
        return now_ns - duration(text)
    except ValueError:
        pass
    try:
        return _iso(text) if _DATE.fullmatch(text) else _ns(datetime.strptime(text, "%a, %d %b %Y %H:%M:%S %z"))
    except ValueError:
        raise ValueError(f"failed to convert {text} to time") from None


def _iso(text: str) -> int:
    found = _DATE.fullmatch(text)
    assert found is not None
    hour, minute, second, part, zone = (found[name] for name in ("hour", "minute", "second", "part", "zone"))
    whole = datetime.fromisoformat(f"{found['date']}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone or 'Z'}")
    return _ns(whole) + int((part or "0")[:9].ljust(9, "0"))


def _ns(when: datetime) -> int:
    return int(when.timestamp()) * _NS


def _at(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // _NS, UTC)


def _trimmed(ns: int, digits: int) -> str:
    """Go's `.999`: no trailing zeros, and no point without digits."""
    part = f"{ns % _NS:09}"[:digits].rstrip("0")
    return f"{_at(ns):%Y-%m-%dT%H:%M:%S}{'.' + part if part else ''}Z"


#: --time-format, by Hubble's names
FORMATS: Final[dict[str, Callable[[int], str]]] = {
    "YearMonthDay": lambda ns: f"{_at(ns):%Y-%m-%d}",
    "YearMonthDayHour": lambda ns: f"{_at(ns):%Y-%m-%dT%H}Z",
    "YearMonthDayHourMinute": lambda ns: f"{_at(ns):%Y-%m-%dT%H:%M}Z",
    "StampMilli": lambda ns: f"{_at(ns):%b} {_at(ns).day:2} {_at(ns):%H:%M:%S}.{ns % _NS // 1_000_000:03}",
    "RFC3339": lambda ns: f"{_at(ns):%Y-%m-%dT%H:%M:%S}Z",
    "RFC3339Milli": lambda ns: _trimmed(ns, 3),
    "RFC3339Micro": lambda ns: _trimmed(ns, 6),
    "RFC3339Nano": lambda ns: _trimmed(ns, 9),
    "RFC1123Z": lambda ns: f"{_at(ns):%a, %d %b %Y %H:%M:%S} +0000",
}


def formatter(name: str) -> Callable[[int], str]:
    """By name, in any case; StampMilli for what is not known, as Hubble."""
    by_name = {known.lower(): make for known, make in FORMATS.items()}
    return by_name.get(name.lower(), FORMATS["StampMilli"])


def elapsed(ns: int) -> str:
    """Go's way to print a duration of whole seconds: 1h2m3s."""
    seconds = ns // _NS
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"
