"""`weft observe --input-file`: flows as `-o json` wrote them, filtered and printed again, in the file's order."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import IO, Final

from google.protobuf.json_format import Parse, ParseError

from weft.daemon.cli.failure import Failure
from weft.daemon.cli.printer import Printer
from weft.daemon.observer.filters import compiled
from weft.policies.wire.pb import observer_pb2

Response = observer_pb2.GetFlowsResponse
_ALL: Final = (1 << 64) - 1
_MAX_LAST: Final = 1_000_000
_WHOLE_LINE: Final = 16 << 20  # a longer line is no flow


def run(name: str, request: observer_pb2.GetFlowsRequest, printer: Printer) -> None:
    if name == "-":
        _print(sys.stdin.buffer, request, printer)
        return
    try:
        with open(name, "rb") as file:
            _print(file, request, printer)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise Failure(f"{name}: {error.strerror}") from None


def _print(file: IO[bytes], request: observer_pb2.GetFlowsRequest, printer: Printer) -> None:
    try:
        for response in chosen(_lines(file), request):
            printer.write(response)
    finally:
        printer.close()


def chosen(responses: Iterator[Response], request: observer_pb2.GetFlowsRequest) -> Iterator[Response]:
    """Those in the time and of the filters of the request; the first or the last `number` of them."""
    try:
        match = compiled(request.whitelist, request.blacklist)
    except ValueError as error:
        raise Failure(str(error), 2) from None
    since = request.since.ToNanoseconds() if request.HasField("since") else 0
    until = request.until.ToNanoseconds() if request.HasField("until") else _ALL
    found = (r for r in responses if since <= r.time.ToNanoseconds() <= until and match(r.flow))
    number = request.number
    if number in (0, _ALL):
        yield from found
    elif request.first:
        yield from islice(found, number)
    elif number > _MAX_LAST:
        raise Failure(f"--last must be <= {_MAX_LAST:_}, got {number}", 2)
    else:
        yield from deque(found, maxlen=number)


def _lines(file: IO[bytes]) -> Iterator[Response]:
    """A line that is no flow is skipped, with a word; a field that this version does not know is ignored."""
    while line := file.readline(_WHOLE_LINE):
        if not line.strip():
            continue
        try:
            yield Parse(line, Response(), ignore_unknown_fields=True)
        except (ParseError, UnicodeDecodeError) as error:
            print(f"weft: skipped a line that is no flow: {error}", file=sys.stderr)
