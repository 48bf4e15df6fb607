"""Whatever bytes come, an HTTP/2 codec raises nothing, writes whole frames only, says GOAWAY at most once before it
closes, tells each request's end exactly once, and holds no more than its windows.

And between two honest peers (the library `h2` on one side, or on both sides of a relay of ours) nothing is lost,
added or reordered, whatever the pieces, the windows and the order of calls; `h2` refuses frames that break flow
control or the state of a stream, so that it is the judge of ours.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

import hostile_http2 as raw
from h2_peers import Recorder, Sink, frames_of, goaways
from h2_relay import PEER, Clock, Relay, Wire
from weft.l7proxy.core.http2 import Client, Server
from weft.l7proxy.core.http2.encoder import Encoder
from weft.l7proxy.core.http2.hpack import BadBlock, Decoder, Oversize, Sensitive
from weft.l7proxy.core.limits import DEFAULTS
from weft.l7proxy.core.stream import Peer, Request

names = st.sampled_from(
    [b"x", b"x-long-name", b"content-type", b":path", b":authority", b"cookie", b"authorization"]
)
fields = st.tuples(names, st.one_of(st.sampled_from([b"", b"1", b"text/html", b"/a"]), st.binary(max_size=40)))
headers = st.lists(fields, max_size=8)
sizes = st.sampled_from([0, 40, 100, 300, 4096, 65536])


# HPACK against the oracle


@given(st.lists(st.one_of(headers, sizes), max_size=20))
def test_what_we_encode_the_oracle_decodes(steps: list[Any]) -> None:
    ours, oracle, decoder = Encoder(), hpack.Decoder(), Decoder(1 << 20, 1000)
    for step in steps:
        if isinstance(step, int):
            ours.resize(step)
            continue
        sent = [Sensitive(f) if i % 3 == 2 else f for i, f in enumerate(step)]
        block = ours.encode(sent)
        assert [tuple(f) for f in oracle.decode(block, raw=True)] == [tuple(f) for f in sent]
        assert decoder.decode(block) == [tuple(f) for f in sent]


@given(st.lists(st.tuples(headers, st.booleans(), sizes), max_size=20))
def test_what_the_oracle_encodes_we_decode(steps: list[tuple[Any, bool, int]]) -> None:
    ours, oracle = Decoder(1 << 20, 1000), hpack.Encoder()
    for fields, coded, size in steps:
        oracle.header_table_size = min(size, 4096)
        assert ours.decode(oracle.encode(fields, huffman=coded)) == fields


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_of_any_block_we_think_as_the_oracle_does(blocks: list[bytes]) -> None:
    ours, oracle = Decoder(1 << 20, 10_000), hpack.Decoder(max_header_list_size=1 << 20)
    for block in blocks:
        try:
            theirs: Any = [tuple(f) for f in oracle.decode(block, raw=True)]
        except hpack.HPACKError:
            theirs = None
        try:
            mine: Any = [tuple(f) for f in ours.decode(block)]
        except BadBlock:
            mine = None
        except Oversize:
            return
        if mine is None or theirs is None:
            # the library takes integers of any length, and more than two size updates: we are stricter, never laxer
            assert mine is None
            return
        assert mine == theirs


# Any bytes

payloads = st.one_of(
    st.binary(max_size=40),
    st.builds(raw.block, headers),
    st.builds(lambda more: raw.block([*raw.GET, *more]), headers),
    st.sampled_from(
        [raw.word(0), raw.word(1), raw.word(0x7FFFFFFF), b"\0" * 8, b"\0\4\0\0\0\0", b"\0\4\x7f\xff\xff\xff"]
    ),
)
frames = st.builds(
    raw.frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 13, 32, 45]),
    st.sampled_from([0, 1, 1, 2, 3, 5]),
    payloads,
)
streams = st.lists(
    st.one_of(frames, st.builds(raw.get, st.sampled_from([1, 3, 5, 7])), st.binary(max_size=5)), max_size=20
)


def honest_frames(wire: Wire) -> None:
    """What was written reads as whole frames, with at most one GOAWAY of an error, and that one last."""
    written = frames_of(wire.take())
    assert len(goaways(written)) <= 1
    if goaways(written):
        assert written[-1][0] == raw.GOAWAY and wire.closed
    block = hpack.Decoder(max_header_list_size=1 << 20)
    for kind, flags, _, payload in written:
        if kind == raw.HEADERS and flags & raw.END_HEADERS:
            block.decode(payload)


@given(streams, st.integers(1, 64), st.booleans())
def test_a_server_survives_any_frames(sent: list[bytes], piece: int, answer: bool) -> None:
    wire, handler, clock = Wire(), Recorder(answer), Clock()
    server = Server(wire, handler, Peer(*PEER), DEFAULTS, clock)
    data = raw.PREFACE + raw.SET + b"".join(sent)
    for at in range(0, len(data), piece):
        server.receive(data[at : at + piece])
    clock.time += 100
    server.tick(clock.time)
    server.lost()
    assert not server.streams and not server.waiting
    for one in handler.requests:
        assert one.over
    honest_frames(wire)


@given(streams, st.integers(1, 64))
def test_a_client_survives_any_frames(sent: list[bytes], piece: int) -> None:
    wire = Wire()
    client = Client(wire, DEFAULTS, Clock())
    sinks = []
    for _ in range(3):
        sinks.append(Sink())
        client.open(sinks[-1]).request(Request(b"GET", b"/", b"a.test", []), True)
    data = raw.SET + b"".join(sent)
    for at in range(0, len(data), piece):
        client.receive(data[at : at + piece])
    client.eof()
    assert not client.streams and client.active == 0
    assert all(sink.over for sink in sinks)
    honest_frames(wire)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_at_all(data: bytes, prefaced: bool) -> None:
    wire = Wire()
    server = Server(wire, Recorder(), Peer(*PEER), DEFAULTS, Clock())
    server.receive((raw.PREFACE if prefaced else b"") + data)
    server.lost()
    honest_frames(wire)


# Honest conversations, with h2 as client and as server of our relay


@dataclass
class Message:
    """What one side of a stream says."""

    fields: list[tuple[bytes, bytes]]
    pieces: list[bytes]
    trailers: list[tuple[bytes, bytes]]


plain = st.lists(
    st.tuples(st.sampled_from([b"x-a", b"x-b", b"grpc-status"]), st.sampled_from([b"", b"1", b"two"])), max_size=4
)
bodies = st.lists(
    st.one_of(st.binary(min_size=1, max_size=20), st.integers(1, 70_000).map(lambda n: b"z" * n)), max_size=4
)
messages = st.builds(Message, plain, bodies, plain)


@dataclass
class Side:
    """`h2` at one end: sends what is due as its windows allow, and notes what it gets."""

    h2: Any
    window: int
    due: dict[int, list[Any]] = field(default_factory=dict)  # ("data", bytes), ("end", trailers)
    heads: dict[int, Any] = field(default_factory=dict)
    bodies: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    trailers: dict[int, Any] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    def say(self, stream: int, message: Message) -> None:
        self.due[stream] = [("data", piece) for piece in message.pieces] + [("end", message.trailers)]

    def push(self, most: int) -> None:
        """A little of what is due, on each stream."""
        for stream, steps in list(self.due.items()):
            kind, what = steps[0]
            if kind == "end":
                if what:
                    self.h2.send_headers(stream, what, end_stream=True)
                else:
                    self.h2.end_stream(stream)
                del self.due[stream]
                continue
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, most)
            if room > 0:
                self.h2.send_data(stream, what[:room])
                steps[0] = ("data", what[room:])
                if not steps[0][1]:
                    steps.pop(0)

    def get(self, data: bytes) -> list[int]:
        """Streams whose head came."""
        heads = []
        for event in self.h2.receive_data(data):
            stream = getattr(event, "stream_id", None)
            if isinstance(event, (h2.events.RequestReceived, h2.events.ResponseReceived)):
                self.heads[stream] = event.headers
                heads.append(stream)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[stream] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[stream] = event.headers
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(stream)
            else:
                assert not isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)), event
        return heads


def side(client: bool, window: int) -> Side:
    config = h2.config.H2Configuration(client_side=client, header_encoding=None)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    return Side(connection, window)


def carry(data: bytes, to: Any, piece: int) -> None:
    for at in range(0, len(data), piece):
        to(data[at : at + piece])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(messages, messages), min_size=1, max_size=5),
    st.sampled_from([100, 5000, 65535, 1 << 20]),
    st.sampled_from([100, 5000, 65535, 1 << 20]),
    st.sampled_from([700, 20_000, 1 << 20]),
    st.sampled_from([1000, 1 << 20]),
)
def test_a_relay_between_honest_peers_loses_nothing(
    talks: list[tuple[Message, Message]], window: int, other: int, piece: int, most: int
) -> None:
    relay = Relay(replace(DEFAULTS, resets=1 << 20))
    client, server = side(True, window), side(False, other)
    for _ in range(3):  # settings first: `h2` refuses even an empty DATA frame while they make its window negative
        relay.back.flush()
        carry(client.h2.data_to_send(), relay.front.receive, piece)
        server.get(relay.back_wire.take())
        carry(server.h2.data_to_send(), relay.back.receive, piece)
        client.get(relay.front_wire.take())
    for number, (asked, _) in enumerate(talks):
        stream = 2 * number + 1
        head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/%d" % number), (b":authority", b"a")]
        client.h2.send_headers(stream, [*head, *asked.fields])
        client.say(stream, asked)
    by_path = {b"/%d" % number: answer for number, (_, answer) in enumerate(talks)}
    answers: dict[int, Message] = {}
    for _ in range(20_000):
        client.push(most)
        server.push(most)
        sent = client.h2.data_to_send()
        carry(sent, relay.front.receive, piece)
        up = relay.back_wire.take()
        for stream in server.get(up):
            answers[stream] = by_path[dict(server.heads[stream])[b":path"]]
        for stream in [s for s in server.ended if s in answers]:  # as gRPC: the answer ends after the request
            answer = answers.pop(stream)
            server.h2.send_headers(stream, [(b":status", b"200"), *answer.fields])
            server.say(stream, answer)
        back = server.h2.data_to_send()
        carry(back, relay.back.receive, piece)
        down = relay.front_wire.take()
        client.get(down)
        if not (sent or up or back or down):
            break
    for number, (asked, answer) in enumerate(talks):
        stream = 2 * number + 1
        assert bytes(client.bodies[stream]) == b"".join(answer.pieces)
        assert list(client.heads[stream])[1:] == answer.fields
        assert list(client.trailers.get(stream, [])) == answer.trailers
        assert stream in client.ended
        theirs = next(s for s, head in server.heads.items() if dict(head)[b":path"] == b"/%d" % number)
        assert bytes(server.bodies[theirs]) == b"".join(asked.pieces)
        assert list(server.heads[theirs])[4:] == asked.fields
        assert list(server.trailers.get(theirs, [])) == asked.trailers
    assert not relay.front.streams and not relay.back.streams and relay.back.active == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 2**32))
def test_calling_off_at_any_time_leaves_nothing_behind(steps: list[int], seed: int) -> None:
    """Open, send, reset, answer in any order: at the end no stream is left on either side."""
    relay = Relay(replace(DEFAULTS, resets=1 << 20))
    client, server = side(True, 65535), side(False, 65535)
    mine: list[int] = []
    for step in steps:
        try:
            if step == 0 or not mine:
                stream = client.h2.get_next_available_stream_id()
                client.h2.send_headers(stream, [*raw.POST])
                mine.append(stream)
            elif step == 1:
                client.h2.send_data(mine[seed % len(mine)], b"x" * 10)
            elif step == 2:
                client.h2.reset_stream(mine.pop(seed % len(mine)))
            else:
                server.h2.reset_stream(max(server.heads), 8)
        except (h2.connection.ProtocolError, ValueError):
            continue  # the library knows that this stream is closed
        relay.front.receive(client.h2.data_to_send())
        for event in server.h2.receive_data(relay.back_wire.take()):
            if isinstance(event, h2.events.RequestReceived):
                server.heads[event.stream_id] = event.headers
        relay.back.receive(server.h2.data_to_send())
        client.h2.receive_data(relay.front_wire.take())
    for stream in mine:
        relay.front.receive(raw.frame(raw.RST, 0, stream, struct.pack(">L", 8)))
    assert not relay.front.streams and not relay.back.streams and relay.back.active == 0
    assert not relay.front_wire.closed and not relay.back_wire.closed
