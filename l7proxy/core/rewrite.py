"""What becomes of a request's path and authority: rewrites and redirects, as pure functions of the request."""

from __future__ import annotations

from collections.abc import Callable

from weft.l7proxy.core.stream import Request
from weft.policies.mesh.matching import bare, substitution
from weft.policies.mesh.model import How, Redirect, RequestMatch, Rewrite

PathChange = Callable[[bytes], bytes]
DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


def path_change(rewrite: Rewrite, match: RequestMatch | None) -> PathChange | None:
    """From a path with its query string to the path to send; None: it stays."""
    if rewrite.path:
        whole = rewrite.path.encode()
        return lambda path: whole + path[len(bare(path)) :]
    if rewrite.prefix is not None:
        return _prefix_change(rewrite.prefix.encode(), match)
    if rewrite.regex:
        return _regex_change(rewrite.regex, rewrite.substitution)
    return None


def _prefix_change(new: bytes, match: RequestMatch | None) -> PathChange:
    """In place of what matched: of an exact match the whole path, of a raw prefix its bytes, of whole segments the
    segments (so `/a` -> `/` gives `/b` for `/a/b` and not `//b`). Without any prefix to replace Istio's route
    matches "/", so that is what goes."""
    matched = match.path if match else None
    if matched and matched.how is How.EXACT:
        return lambda path: (new or b"/") + path[len(bare(path)) :]
    if matched and matched.how is How.SEGMENTS:
        length = len(matched.value.rstrip("/").encode())
        base = new.rstrip(b"/")
        return lambda path: _rooted(base + path[length:])
    length = len(matched.value.encode()) if matched and matched.how is How.PREFIX else 1
    return lambda path: _rooted(new + path[length:])


def _rooted(path: bytes) -> bytes:
    """A path begins with a slash, also where the new prefix was "" or the rest only a query string."""
    return path if path.startswith(b"/") else b"/" + path


def _regex_change(pattern: str, template: str) -> PathChange:
    compiled, pieces = substitution(pattern, template)

    def change(path: bytes) -> bytes:
        clean = bare(path)
        done: list[bytes] = []
        at = 0
        for found in compiled.finditer(clean):
            done.append(clean[at : found.start()])
            done += [piece if isinstance(piece, bytes) else found.group(piece) or b"" for piece in pieces]
            at = found.end()
        done.append(clean[at:])
        return _rooted(b"".join(done)) + path[len(clean) :]

    return change


def location(redirect: Redirect, request: Request, match: RequestMatch | None, port: int) -> bytes:
    """The absolute URL that the client is sent to. `port`: the one that the request came to."""
    scheme = redirect.scheme.encode() or request.scheme
    given_host, given_port = split_authority(request.authority)
    host = redirect.host.encode() or given_host
    shown = _shown_port(redirect, scheme, given_port, port)
    path = _redirect_path(redirect, request.path, match)
    return scheme + b"://" + host + (b":" + shown if shown else b"") + path


def _shown_port(redirect: Redirect, scheme: bytes, given: bytes, port: int) -> bytes:
    if redirect.derive_port == "request":
        shown = b"%d" % port
    elif redirect.derive_port == "protocol":
        return b""
    elif redirect.port:
        shown = b"%d" % redirect.port
    else:
        return b"" if redirect.scheme or redirect.host else given
    return b"" if DEFAULT_PORTS.get(scheme) == shown else shown


def _redirect_path(redirect: Redirect, path: bytes, match: RequestMatch | None) -> bytes:
    if redirect.path:
        whole = redirect.path.encode()
        return whole if b"?" in whole else whole + path[len(bare(path)) :]
    if redirect.prefix is not None:
        return _prefix_change(redirect.prefix.encode(), match)(path)
    return path


def split_authority(authority: bytes) -> tuple[bytes, bytes]:
    """Host and port, each as written; the port b"" if there is none."""
    if b":" in authority and not authority.endswith(b"]"):
        host, _, port = authority.rpartition(b":")
        return host, port
    return authority, b""
