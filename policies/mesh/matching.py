"""Tests of a request, compiled. In: the model's matchers. Out: plain callables over bytes, or over a `View`.

A pattern is compiled once and asked millions of times, so everything that can be decided from the matcher alone is
decided here. Regexes are RE2's own (linear time, whatever a stranger sends), always of the whole value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from weft.policies.dialects.re2 import BadPattern, translate
from weft.policies.mesh.model import How, Matcher, Named, RequestMatch
from weft.policies.regex import MEMORY

Test = Callable[[bytes], bool]  # of a value that is there
Optional = Callable[["bytes | None"], bool]  # of one that may be absent


class RequestHead(Protocol):
    """What is asked of a request: the proxy's own fits, and `choose.Asked`."""

    method: bytes
    path: bytes
    authority: bytes
    scheme: bytes
    headers: list[tuple[bytes, bytes]]


class Client(Protocol):
    """Who asks. `namespace` "": nobody of the cluster; `labels`: the pod's."""

    @property
    def namespace(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


class View:
    """One request as the tests see it; what only some tests need is made when the first of them asks."""

    __slots__ = ("_headers", "_query", "client", "path", "port", "request")

    def __init__(self, request: RequestHead, path: bytes, client: Client, port: int) -> None:
        self.request, self.path, self.client, self.port = request, path, client, port
        self._headers: dict[bytes, bytes] | None = None
        self._query: dict[bytes, bytes] | None = None

    @property
    def headers(self) -> dict[bytes, bytes]:
        if self._headers is None:
            self._headers = joined(self.request.headers)
        return self._headers

    @property
    def query(self) -> dict[bytes, bytes]:
        if self._query is None:
            self._query = query_of(self.request.path)
        return self._query


def joined(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Several values of a name as one: cookie crumbs by "; " (RFC 9113, 8.2.3), everything else by ","."""
    together: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in together:
            together[name] += (b"; " if name == b"cookie" else b",") + value
        else:
            together[name] = value
    return together


def query_of(path: bytes) -> dict[bytes, bytes]:
    """The first value of each parameter, as written: like Envoy we decode nothing. `k` alone has the value ""."""
    _, mark, query = path.partition(b"?")
    found: dict[bytes, bytes] = {}
    if mark:
        for pair in query.partition(b"#")[0].split(b"&"):
            name, _, value = pair.partition(b"=")
            found.setdefault(name, value)
    return found


def bare(path: bytes) -> bytes:
    """Without query string and fragment."""
    if b"?" in path:
        path = path[: path.index(b"?")]
    if b"#" in path:
        path = path[: path.index(b"#")]
    return path


def regex(pattern: str, *, captures: bool = False) -> Any:
    """A compiled RE2 pattern over bytes, read as strictly as those of network policy. Raises `BadPattern`."""
    translate(pattern)
    import re2  # the command line starts without it

    options = re2.Options()
    options.log_errors, options.never_capture, options.max_mem = False, not captures, MEMORY
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else "refused"
        raise BadPattern(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None


def substitution(pattern: str, template: str) -> tuple[Any, list[bytes | int]]:
    """A pattern, and what to put in place of each match: text and numbers of groups, as RE2's rewrite language has
    them (`\\0` to `\\9`, and a backslash doubled)."""
    compiled = regex(pattern, captures=True)
    pieces: list[bytes | int] = []
    for text, escaped in re.findall(r"([^\\]+)|\\(.?)", template, re.DOTALL):
        if escaped.isdigit():
            pieces.append(int(escaped))
        elif text or escaped == "\\":
            pieces.append((text or escaped).encode())
        else:
            raise BadPattern(f"{template!r}: a backslash is followed by a digit or a backslash")
    highest = max((piece for piece in pieces if isinstance(piece, int)), default=0)
    if highest > compiled.groups:
        raise BadPattern(f"{template!r} wants group {highest}, {pattern!r} has {compiled.groups}")
    return compiled, pieces


def value_test(matcher: Matcher) -> Test:
    """Of a value that is there; `invert` is taken into account."""
    test = _plain(matcher)
    return (lambda value: not test(value)) if matcher.invert else test


def optional_test(matcher: Matcher) -> Optional:
    """Of a value that may be absent: that fails the test, and so passes an inverted one."""
    test, missing = value_test(matcher), matcher.invert
    return lambda value: missing if value is None else test(value)


def _plain(matcher: Matcher) -> Test:
    how, value = matcher.how, matcher.value.encode()
    if matcher.ignore_case and how in (How.EXACT, How.PREFIX):
        folded = value.lower()
        if how is How.EXACT:
            return lambda given: given.lower() == folded
        return lambda given: given.lower().startswith(folded)
    if how is How.REGEX:
        fullmatch = regex(matcher.value).fullmatch
        return lambda given: fullmatch(given) is not None
    return _OF_BYTES[how](value)


def _segments(prefix: bytes) -> Test:
    whole = prefix.rstrip(b"/")
    inside = whole + b"/"
    return lambda path: path == whole or path.startswith(inside)


_OF_BYTES: dict[How, Callable[[bytes], Test]] = {
    How.EXACT: lambda value: value.__eq__,
    How.PREFIX: lambda value: lambda given: given.startswith(value),
    How.SUFFIX: lambda value: lambda given: given.endswith(value),
    How.CONTAINS: lambda value: lambda given: value in given,
    How.PRESENT: lambda value: lambda given: True,
    How.SEGMENTS: _segments,
}

Check = Callable[[View], bool]


def request_test(match: RequestMatch, *, with_path: bool = True) -> Check | None:
    """All that `match` asks for, the cheap things first; None: it asks for nothing. `with_path` False: the path
    is known to fit."""
    checks = [*_line_checks(match, with_path), *_source_checks(match)]
    checks += [_header_check(named) for named in match.headers]
    checks += [_query_check(named) for named in match.query]
    return _all(checks) if checks else None


def _all(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda view: first(view) and second(view)

    def every(view: View) -> bool:
        for check in checks:  # noqa: SIM110 a generator costs more than the checks
            if not check(view):
                return False
        return True

    return every


def _line_checks(match: RequestMatch, with_path: bool) -> list[Check]:
    checks: list[Check] = []
    if match.port:
        port = match.port
        checks.append(lambda view: view.port == port)
    if match.method:
        method = value_test(match.method)
        checks.append(lambda view: method(view.request.method))
    if match.path and with_path:
        path = value_test(match.path)
        checks.append(lambda view: path(view.path))
    if match.scheme:
        scheme = value_test(match.scheme)
        checks.append(lambda view: scheme(view.request.scheme))
    if match.authority:
        authority = value_test(match.authority)
        checks.append(lambda view: authority(view.request.authority))
    return checks


def _source_checks(match: RequestMatch) -> list[Check]:
    checks: list[Check] = []
    if match.source_namespace:
        namespace = match.source_namespace
        checks.append(lambda view: view.client.namespace == namespace)
    if match.source_labels:
        wanted = dict(match.source_labels).items()
        checks.append(lambda view: wanted <= view.client.labels.items())
    return checks


def _header_check(named: Named) -> Check:
    test, name = optional_test(named.matcher), named.name.lower().encode()
    if name in (b"host", b":authority"):
        return lambda view: test(view.request.authority or None)
    return lambda view: test(view.headers.get(name))


def _query_check(named: Named) -> Check:
    test, name = optional_test(named.matcher), named.name.encode()
    return lambda view: test(view.query.get(name))
