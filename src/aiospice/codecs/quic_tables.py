"""What a QUIC stream takes for granted: its code words, and how its models learn.

QUIC is derived from SFALIC. A difference between a sample and its prediction is folded into a
value (0, -1, 1, -2, ... become 0, 1, 2, 3, ...) and written in one of 8 (5 for 5-bit samples)
Golomb-Rice codes. Which one was cheapest so far is counted for each bucket of values that the
neighbour on the left had. Facts: ``quic.c`` and ``quic_family_tmpl.c`` in spice-common.
"""

from __future__ import annotations

from array import array

__all__ = [
    "FAST_BITS",
    "LONG",
    "LONGEST",
    "RULES",
    "TRIGGERS",
    "Codes",
    "codes",
]

#: A code word has at most so many bits, whatever the depth of samples.
LONGEST = 26
#: Code words up to this length are found by one look into `Codes.fast`.
FAST_BITS = 10
#: Buckets of a channel (5-bit samples use 5 of them).
BUCKETS = 8
#: The entry of `Codes.fast` for words that are longer than that, and set in those that stand for
#: nothing.
LONG = 64

#: When the least of a bucket's counters passes this, all are halved; by the index of the wait mask.
#: (As `Codes.counts` has counters, but for what is subtracted.)
TRIGGERS = array("I", (bits * 8 + 7 for bits in (110, 550, 900, 800, 550, 400, 350)))
#: First how many pixels pass between two lessons, at most 63: both sides walk through these from
#: the first on, again and again, each masked by the current wait mask. (``tabrand_chaos`` has
#: numbers of 32 bits; no wait mask is wider than 6.) Then, by the state of runs, n: a run is
#: written as ones, each for 2**n pixels, and the rest in n bits.
RULES = array(
    "B",
    bytes.fromhex(
        "021713150712280e0c202f2c2406120b04132a1d103f39331003050e0f1e1409"
        "242d03393d000805290e2b1b2b3b1f23273c2a260d363e011a030b3d34220730"
        "043b160c160832040a062c080b2e1f333511012b2e3c24360a1b272c16291702"
        "2c0028352830102b201c210c1402383e373a12140d37261d391331212f3f3b00"
        "233d13192e263c0423011a281c0a050e19123031143b3e222e072134223a091d"
        "08373e3c2524253206030a1c30181a3d391e0b360206322f07112335200c1711"
        "05153137332d341b2719273f16182a343826292938200d181a331b383a25182a"
        "0f1c111e1f0f101719362122011d1f323515310f2f09003a252d1e0d092d3f15"
    )
    + bytes(
        (*(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), *range(8, 16))
    ),
)


class Codes:
    """The codes for samples of ``depth`` bits, as the kernels look them up.

    Codes stand in the order of their names backwards: the one of most bits (7 of 8-bit samples) has
    the first place, code 0 the place 7, since the longer of two that are as good is taken.

    An entry of ``fast`` and ``values`` is 32 bits: the code word's length (6 bits), the value (from
    bit 8), the difference (16) and its bucket (25).
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        size = 1 << depth
        #: A sample's mask in each of three lanes of 16 bits.
        self.lanes = 0x000100010001 * (size - 1)
        #: By difference (0 to 255): the value, and from bit 9 its bucket.
        self.folded = array("H", bytes(512))
        #: By value: an entry without a length. From 256, by code: how many zeros a word of another
        #: form begins with; from 264: the bits after those.
        self.values = array("I", [LONG] * (256 + 16))
        for value in range(size):
            difference = size - 1 - (value >> 1) if value & 1 else value >> 1
            bucket = min((value + 1).bit_length() - 1, depth - 1)
            self.folded[difference] = value | bucket << 9
            self.values[value] = value << 8 | difference << 16 | bucket << 25
        #: By code and value: the code word, and from bit 26 its length.
        self.words = array("I", bytes(8 * 1024))
        #: By value and code: 8 times the length. From 2048 the counters begin, by channel, bucket
        #: and code: 8 times the bits, plus the place, minus 32768; those of codes that aren't are
        #: never the least.
        counters = [k - 32768 if k >= 8 - depth else 32767 for k in range(8)]
        self.counts = array("h", [0] * 2048 + counters * (4 * BUCKETS))
        #: By code and the next `FAST_BITS` bits: an entry, `LONG` for words that are longer.
        self.fast = array("I", [LONG]) * (BUCKETS << FAST_BITS)
        for code in range(depth):
            self._add(code)
        #: What stands before a row's pixels: by channel and bucket, where its best code is in
        #: ``fast`` (at first that for the longest values).
        self.head = array("Q", [8 - depth << FAST_BITS]) * (4 * BUCKETS)

    def _add(self, code: int) -> None:
        place = 7 - code
        zeros = min(LONGEST - self.depth, (1 << (self.depth - code)) - 1)
        short = zeros << code
        rest = ((1 << self.depth) - short - 1).bit_length()
        self.values[256 + place], self.values[264 + place] = zeros, rest
        for value in range(1 << self.depth):
            if value < short:
                word, length = 1 << code | value & ((1 << code) - 1), (value >> code) + code + 1
            else:
                word, length = value - short, zeros + rest
            self.words[place << 8 | value] = length << 26 | word
            self.counts[value << 3 | place] = length << 3
            if length <= FAST_BITS:
                spare = FAST_BITS - length
                at = (place << FAST_BITS) + (word << spare)
                entries = array("I", [self.values[value] | length])
                self.fast[at : at + (1 << spare)] = entries * (1 << spare)


_kept: dict[int, Codes] = {}


def codes(depth: int) -> Codes:
    """Return the codes for samples of 8 or 5 bits, made when first asked for."""
    if depth not in _kept:
        _kept[depth] = Codes(depth)
    return _kept[depth]
