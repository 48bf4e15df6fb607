"""Whatever comes over the feed's socket, it is taken in whole or costs its connection; the ledger only ever holds
what makes sense, and the other workers notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from weft.daemon.proxy import exposition
from weft.daemon.proxy.counts import Counts
from weft.daemon.proxy.feed import Feed
from weft.daemon.proxy.frames import BadFrame, Frames, framed
from weft.daemon.proxy.worker import Worker
from weft.policies.wire.pb import control_pb2
from weft.policies.wire.pb import proxy_pb2 as pb

UPDATE = control_pb2.Update(revision=7, epoch="e", full=True).SerializeToString()
numbers = st.one_of(st.floats(), st.integers(-5, 5).map(float))
small = st.integers(0, 5)
families = st.sampled_from(["istio_requests_total", "istio_request_bytes", "weft_open", "bad name", ""])
series = st.builds(
    pb.Series,
    id=small,
    family=families,
    labels=st.dictionaries(st.sampled_from(["a", "b", "0", ""]), st.text(max_size=4), max_size=2),
    bounds=st.lists(numbers, max_size=3),
    gauge=st.booleans(),
)
samples = st.builds(
    pb.Sample, id=small, value=numbers, count=small, buckets=st.lists(st.integers(0, 2**64 - 1), max_size=4)
)
messages = st.one_of(
    st.builds(pb.FromProxy, hello=st.builds(pb.Hello, worker=small, pid=small, generation=small)),
    st.builds(pb.FromProxy, ack=st.builds(pb.Ack, revision=st.integers(0, 2**64 - 1))),
    st.builds(pb.FromProxy, ready=st.builds(pb.Ready)),
    st.builds(
        pb.FromProxy, reply=st.builds(pb.Reply, id=small, json=st.binary(max_size=8), error=st.text(max_size=4))
    ),
    st.builds(
        pb.FromProxy,
        counts=st.builds(pb.Counts, series=st.lists(series, max_size=3), samples=st.lists(samples, max_size=3)),
    ),
    st.builds(pb.FromProxy, records=st.builds(pb.Records, lost=small)),
).map(lambda message: framed(message.SerializeToString()))
pieces = st.lists(st.one_of(messages, st.binary(max_size=40)), max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(pieces, st.integers(1, 50))
def test_frames_are_the_same_however_they_are_cut(data: bytes, size: int) -> None:
    def read(chunks: list[bytes]) -> list[bytes]:
        found, frames = [], Frames()
        with contextlib.suppress(BadFrame):
            for chunk in chunks:
                for message in frames.receive(chunk):
                    found.append(message.SerializeToString())
        return found

    assert read([data]) == read([data[at : at + size] for at in range(0, len(data), size)])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(pb.Counts, series=st.lists(series, max_size=4), samples=st.lists(samples, max_size=4)), max_size=8
    )
)
def test_the_ledger_holds_only_what_makes_sense(told: list[pb.Counts]) -> None:
    ledger = Counts(max_series=5)
    for number, counts in enumerate(told):
        with contextlib.suppress(BadFrame):
            ledger.add(number % 3, counts)
    assert ledger.series == sum(len(family.series) for family in ledger.families.values()) <= 5
    for family in ledger.families.values():
        for total in family.series.values():
            assert (math.isfinite(total.value) and total.value >= 0) or family.kind != "counter"
            assert len(total.buckets) == (len(family.bounds) + 1 if family.bounds else 0)
    text = asyncio.run(exposition.text(ledger.families, True)) + "# EOF\n"
    assert {family.name for family in text_string_to_metric_families(text)} == {
        name.removesuffix("_total") for name in ledger.families
    }


class Nobody:
    def worker_came(self, worker: Worker) -> None: ...
    def worker_ready(self, worker: Worker) -> None: ...
    def worker_went(self, worker: Worker) -> None: ...
    def records(self, worker: Worker, records: pb.Records) -> None: ...
    def forget(self, worker: Worker) -> None: ...

    def __init__(self) -> None:
        self.ledger = Counts()

    def counts(self, worker: Worker, counts: pb.Counts) -> None:
        self.ledger.add(worker, counts)


@settings(max_examples=60, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=4))
def test_strangers_leave_a_good_worker_alone(strangers: list[bytes]) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            nobody = Nobody()
            feed = Feed(Path(folder) / "s", pb.Setup, lambda: 7, lambda: UPDATE, nobody, nobody)
            await feed.start()
            try:
                reader, writer = await asyncio.open_unix_connection(str(feed.path))
                writer.write(framed(pb.FromProxy(hello=pb.Hello(worker=9)).SerializeToString()))
                writer.write(framed(pb.FromProxy(ready=pb.Ready()).SerializeToString()))
                await _until_ready(feed)
                for data in strangers:
                    _, other = await asyncio.open_unix_connection(str(feed.path))
                    other.write(data)
                    with contextlib.suppress(OSError):
                        await other.drain()
                    other.close()
                feed.update(8, False, control_pb2.Update(revision=8).SerializeToString())
                seen: list[int] = []
                async with asyncio.timeout(5):
                    while 8 not in seen:
                        size = int.from_bytes(await reader.readexactly(4), "big")
                        seen.append(pb.ToProxy.FromString(await reader.readexactly(size)).update.revision)
                writer.close()
            finally:
                await feed.stop()

    asyncio.run(main())


async def _until_ready(feed: Feed) -> None:
    async with asyncio.timeout(5):
        while not feed.serving():  # noqa: ASYNC110  # it watches what has no event
            await asyncio.sleep(0.001)
