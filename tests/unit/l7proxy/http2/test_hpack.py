"""HPACK by the examples of RFC 7541, by its limits, and by what the caches must not do."""

from __future__ import annotations

import hpack
import pytest

from hostile_http2 import literal, number
from weft.l7proxy.core.http2 import huffman
from weft.l7proxy.core.http2.encoder import Encoder
from weft.l7proxy.core.http2.hpack import BadBlock, Decoder, Oversize, Sensitive
from weft.l7proxy.core.http2.statictable import LAST, STATIC

REQUESTS = (
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        *((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")),
        (b"cache-control", b"no-cache"),
    ],
    [
        *((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html")),
        *((b":authority", b"www.example.com"), (b"custom-key", b"custom-value")),
    ],
)
C3 = ("828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865")
C3 += ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",)
C4 = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)

DATE = b"Mon, 21 Oct 2013 20:13:21 GMT"
LATER = b"Mon, 21 Oct 2013 20:13:22 GMT"
SITE = b"https://www.example.com"
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
RESPONSES = (
    [(b":status", b"302"), (b"cache-control", b"private"), (b"date", DATE), (b"location", SITE)],
    [(b":status", b"307"), (b"cache-control", b"private"), (b"date", DATE), (b"location", SITE)],
    [
        *((b":status", b"200"), (b"cache-control", b"private"), (b"date", LATER), (b"location", SITE)),
        *((b"content-encoding", b"gzip"), (b"set-cookie", COOKIE)),
    ],
)
C6 = (
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672"
    "c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
)


def decoder(limit: int = 1 << 16, most: int = 100, table: int = 4096) -> Decoder:
    return Decoder(limit, most, table)


@pytest.mark.parametrize("blocks", [C3, C4], ids=["C.3 plain", "C.4 Huffman"])
def test_the_requests_of_the_rfc(blocks: tuple[str, ...]) -> None:
    ours = decoder()
    assert [ours.decode(bytes.fromhex(block)) for block in blocks] == list(REQUESTS)


def test_the_responses_of_the_rfc_in_a_table_that_evicts() -> None:
    ours = decoder(table=256)
    assert [ours.decode(bytes.fromhex(block)) for block in C6] == list(RESPONSES)


def test_the_static_table_is_the_oracles() -> None:
    assert STATIC[1:] == hpack.table.HeaderTable.STATIC_TABLE and LAST == 61


def test_huffman_of_every_byte_and_of_every_pair() -> None:
    table = hpack.huffman.HuffmanEncoder(
        hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
    )
    for first in range(256):
        text = b"".join(bytes((first, second)) for second in range(0, 256, 5))
        assert huffman.encode(text) == table.encode(text)
        assert huffman.decode(huffman.encode(text)) == text


@pytest.mark.parametrize("bad", ["ff", "ffffffff", "18", "1f00", "3fffffff"], ids=str)
def test_huffman_that_is_none(bad: str) -> None:
    with pytest.raises(huffman.BadHuffman):
        huffman.decode(bytes.fromhex(bad))


@pytest.mark.parametrize("value", [0, 1, 30, 31, 126, 127, 128, 254, 255, 4095, 65536, (1 << 28) - 1])
def test_integers_of_every_length(value: int) -> None:
    block = b"\x00" + literal(b"x", b"")[1:3] + number(value, 7)
    if value > 1 << 16:
        with pytest.raises(BadBlock, match="beyond"):
            decoder().decode(block)
    else:
        assert decoder(1 << 20).decode(block + b"v" * value) == [(b"x", b"v" * value)]


def test_a_block_over_the_limit_leaves_the_table_in_step() -> None:
    ours = decoder(limit=200)
    with pytest.raises(Oversize):
        ours.decode(literal(b"big", b"x" * 500) + literal(b"kept", b"v", 0x40))
    assert ours.decode(b"\xbe") == [(b"kept", b"v")]


def test_too_many_fields_leave_the_table_in_step() -> None:
    ours = decoder(most=3)
    with pytest.raises(Oversize):
        ours.decode(literal(b"kept", b"v", 0x40) + b"\x82" * 3)
    assert ours.decode(b"\xbe\x82\x82") == [(b"kept", b"v"), (b":method", b"GET"), (b":method", b"GET")]


def test_what_is_known_is_forgotten_when_the_table_changes() -> None:
    ours = decoder()
    ours.decode(literal(b"x", b"1", 0x40))
    ours.decode(b"\xbe")
    assert not ours.keep(b"\xbe", "one") and not ours.known, "it may never come again"
    assert ours.keep(b"\xbe", "one") and ours.known == {b"\xbe": "one"}
    block = literal(b"x", b"2", 0x40)
    ours.decode(block)
    ours.keep(block, "must not be kept: it inserts once more each time")
    assert ours.known == {}


def test_what_is_known_is_bounded() -> None:
    ours = decoder()
    for i in range(10_000):
        block = literal(b"x", b"%d" % i)
        ours.decode(block)
        for _ in range(2):
            ours.keep(block, i)
    assert 0 < len(ours.known) <= 256 and len(ours._marks) <= 512
    long = literal(b"x", b"v" * 5000)
    ours.decode(long)
    for _ in range(2):
        ours.keep(long, "long")
    assert long not in ours.known


def test_a_field_is_indexed_when_it_comes_again_and_small_ever_after() -> None:
    ours, oracle = Encoder(), hpack.Decoder()
    field = [(b"user-agent", b"something rather long/1.0")]
    sizes = []
    for _ in range(4):
        block = ours.encode(field)
        sizes.append(len(block))
        assert oracle.decode(block, raw=True) == field
    assert sizes[0] > 20 and sizes[1] > 10 and sizes[2:] == [1, 1]


def test_what_comes_once_never_enters_the_table() -> None:
    ours, oracle = Encoder(), hpack.Decoder()
    for i in range(1000):
        oracle.decode(ours.encode([(b"x-id", b"%d" % i)]))
    assert not oracle.header_table.dynamic_entries


def test_secrets_are_never_indexed() -> None:
    ours, oracle = Encoder(), hpack.Decoder()
    for _ in range(5):
        block = ours.encode([(b"authorization", b"Bearer x"), Sensitive((b"x-key", b"k")), (b"x-key", b"other")])
        fields = oracle.decode(block, raw=True)
        assert [type(f).__name__ for f in fields[:2]] == ["NeverIndexedHeaderTuple"] * 2
    assert fields[1] == (b"x-key", b"k")


def test_a_field_is_not_sensitive_because_its_twin_is() -> None:
    ours = Encoder()
    for _ in range(4):
        plain = ours.encode([(b"x-key", b"k")])
    secret = ours.encode([Sensitive((b"x-key", b"k"))])
    assert len(plain) == 1 and secret[0] == 0x10


def test_a_table_that_churns_is_left_alone() -> None:
    ours, oracle = Encoder(), hpack.Decoder()
    oracle.max_header_list_size = 1 << 20
    fields = [[(b"x-%d" % i, b"v" * 100)] for i in range(200)]
    for turn in range(20):
        for one in fields:
            assert oracle.decode(ours.encode(one), raw=True) == one, turn
    assert ours._inserted < 200, "not one insertion for each of 4000 fields"


def test_the_peer_may_shrink_and_grow_the_table() -> None:
    ours, oracle = Encoder(), hpack.Decoder()
    field = [(b"user-agent", b"one"), (b"x", b"two")]
    for size in (4096, 0, 4096, 100, 50, 1 << 20, 0):
        ours.resize(size)
        for _ in range(4):
            assert oracle.decode(ours.encode(field), raw=True) == field
    ours.resize(10)
    ours.resize(4096)
    block = ours.encode(field)
    assert block[0] == 0x20 | 10, "the lowest, then the last"
    assert oracle.decode(block, raw=True) == field


def test_an_encoder_remembers_a_bounded_number_of_short_fields() -> None:
    ours, oracle = Encoder(), hpack.Decoder(max_header_list_size=1 << 20)
    for i in range(5000):
        for _ in range(2):
            field = [(b"x-id", b"%d" % i), (b"x-long", b"%05d" % i * 200)]
            assert oracle.decode(ours.encode(field), raw=True) == field
    assert len(ours) <= 1024 and len(ours._seen) <= 1024
    assert max(len(value) for _, value in [*ours, *ours._seen]) < 512
