"""Heads that differ in a few values: what is known of their shape says the same as a whole reading would."""

from __future__ import annotations

import random

import pytest

import hostile_http2 as raw
from weft.l7proxy.core.http2.heads import Malformed, RequestHead, request_head
from weft.l7proxy.core.http2.hpack import Sensitive
from weft.l7proxy.core.http2.shapes import Shapes
from weft.l7proxy.core.stream import Headers

LINE = [*raw.POST, (b"content-type", b"application/grpc"), (b"user-agent", b"a")]
NAMES = (b"x-request-id", b"grpc-timeout", b"cookie", b"content-length", b"te", b"expect", b"host", b":path")
NAMES += (b"connection", b"X-Upper", b"x-envoy-max-retries", b"user-agent", b"content-type")
VALUES = (b"1", b"22", b"trailers", b"100-continue", b"/other", b"a\x00b", b" a", b"a\t", b"a b", b"", b"\x7f")


def read(fields: Headers, shapes: Shapes | None, fresh: list[int]) -> RequestHead | str:
    try:
        return shapes.head(fields, fresh) if shapes else request_head(fields)
    except Malformed as error:
        return str(error)


def test_it_reads_as_if_nothing_were_known() -> None:
    draw = random.Random(8)
    shapes, read_before = Shapes(), 0
    for _ in range(20_000):
        fields = [field for field in LINE if draw.random() < 0.97]
        fresh = []
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(fields) + 1)
            one = draw.choice(NAMES), draw.choice(VALUES)
            fields.insert(at, Sensitive(one) if draw.random() < 0.2 else one)
            fresh = [place + (place >= at) for place in fresh] + [at]
        fresh.sort()
        read_before += len(shapes._known)
        ours, plain = read(fields, shapes, fresh), read(fields, None, fresh)
        assert ours == plain, fields
        if isinstance(ours, RequestHead) and isinstance(plain, RequestHead):
            assert [type(field) for field in ours.headers] == [type(field) for field in plain.headers]
            a, b = ours.named, plain.named
            assert a is not None and b is not None
            assert (a.grpc, a.asking, a.private, a.steady) == (b.grpc, b.asking, b.private, b.steady)
    assert read_before, "some were known"


@pytest.mark.parametrize("value", [b"a\r\nb", b"\x00", b" a", b"a ", b"\ta"])
def test_a_value_that_is_none_is_refused_however_well_the_shape_is_known(value: bytes) -> None:
    shapes = Shapes()
    for good in (b"1", b"2"):
        assert shapes.head([*LINE, (b"x-id", good)], [len(LINE)]).headers[-1] == (b"x-id", good)
    with pytest.raises(Malformed):
        shapes.head([*LINE, (b"x-id", value)], [len(LINE)])


def test_shapes_are_bounded_and_share_no_list() -> None:
    shapes = Shapes()
    for i in range(500):
        for value in (b"1", b"2", b"3"):
            head = shapes.head([*LINE, (b"x-%d" % i, value)], [len(LINE)])
            assert head.headers[-1] == (b"x-%d" % i, value)
            if value == b"2":
                head.headers.clear()
    assert 0 < len(shapes._known) <= 32
    assert len(shapes.head([*LINE, (b"x-long", b"v" * 5000)], [len(LINE)]).headers) == 3
    assert not any(b"x-long" in shape for shape in shapes._known)
