"""Finds texts that are nearly the same, in memory that does not grow with their length: a MinHash sketch of 256 bytes each.

A text is the set of its runs of 5 characters (case, width and spaces folded). Two sketches agree in as many places as the two sets
have in common of both, their Jaccard similarity (A. Broder, "On the resemblance and containment of documents", 1997); with 64 places
the error of that estimate is 0.05 at 0.8. Pairs to compare are found by 16 bands of 4 places each (Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", chapter 3): of pairs at 0.8 all but 1 in 3,600 meet in a band.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from trainer_svc.bots.texts import fold_text

SIMILARITY = 0.8
_RUN_CHARS = 5
_NUM_PLACES = 64
_NUM_BANDS = 16
_SEED = 20_261_126
# So many runs are hashed at once: 64 x 4,096 numbers of 8 bytes are 2 MiB.
_BLOCK_RUNS = 4_096
_BLOCK_PAIRS = 65_536
_Words = npt.NDArray[np.uint64]


class Sketches:
    """Sketches of texts, in the order in which they were added."""

    def __init__(self) -> None:
        """Begin with none; the hash functions are the same every time."""
        chance = np.random.default_rng(_SEED)
        # Multiply-shift hashing (Dietzfelbinger 1997): odd factors, and of each product the high half.
        self._factors: _Words = chance.integers(2**64, size=(_NUM_PLACES, 1), dtype=np.uint64) | np.uint64(1)
        self._offsets: _Words = chance.integers(2**64, size=(_NUM_PLACES, 1), dtype=np.uint64)
        self._sketches = bytearray()

    def add(self, text: str, *, apart: str = "") -> None:
        """Sketch a text; those of another `apart` have no run in common with it."""
        seed = int.from_bytes(hashlib.blake2b(apart.encode(), digest_size=8).digest())
        runs = _hash_runs(fold_text(text), np.uint64(seed))
        lowest = np.full(_NUM_PLACES, np.iinfo(np.uint32).max, dtype=np.uint32)
        for begin in range(0, len(runs), _BLOCK_RUNS):
            hashed = (self._factors * runs[begin : begin + _BLOCK_RUNS] + self._offsets) >> np.uint64(32)
            lowest = np.minimum(lowest, hashed.min(axis=1).astype(np.uint32))
        self._sketches += lowest.tobytes()

    def group(self) -> list[int]:
        """Return for each text the place, from 0, of the first text of its group: texts that are alike, or linked by such."""
        table = np.frombuffer(self._sketches, dtype=np.uint32).reshape(-1, _NUM_PLACES)
        leaders = list(range(len(table)))
        for band in np.split(table, _NUM_BANDS, axis=1):
            for left, right in _find_alike(table, band):
                first, second = sorted((_find_leader(leaders, left), _find_leader(leaders, right)))
                leaders[second] = first
        return [_find_leader(leaders, place) for place in range(len(leaders))]


def _hash_runs(text: str, seed: np.uint64) -> _Words:
    """Return a number for each different run of a text; a text that is shorter than a run is one."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    codes = np.pad(codes, (0, max(0, _RUN_CHARS - len(codes))))
    hashed = np.full(len(codes) - _RUN_CHARS + 1, seed)
    for place in range(_RUN_CHARS):
        hashed = _mix(hashed ^ codes[place : len(codes) - _RUN_CHARS + 1 + place])
    return np.unique(hashed)


def _mix(words: _Words) -> _Words:
    """Scatter numbers over all 64 bits, as the generator splitmix64 ends (Steele, Lea, Flood 2014); they wrap around by intent."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _find_alike(table: npt.NDArray[np.uint32], band: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Return pairs that meet in a band and are alike: each text is compared with the one before it and with the first of its bucket.

    Not with all of the bucket: a thousand copies of one text would be half a million pairs.
    """
    order = np.lexsort(band.T)
    is_same = (band[order[1:]] == band[order[:-1]]).all(axis=1)
    later = np.flatnonzero(is_same) + 1
    begins = np.maximum.accumulate(np.where(np.concatenate(([False], is_same)), 0, np.arange(len(order))))
    lefts = np.concatenate((order[later - 1], order[begins[later]]))
    rights = np.concatenate((order[later], order[later]))
    alike: list[tuple[int, int]] = []
    for begin in range(0, len(lefts), _BLOCK_PAIRS):
        left, right = lefts[begin : begin + _BLOCK_PAIRS], rights[begin : begin + _BLOCK_PAIRS]
        kept = (table[left] == table[right]).mean(axis=1) >= SIMILARITY
        alike += zip(left[kept].tolist(), right[kept].tolist(), strict=True)
    return alike


def _find_leader(leaders: list[int], place: int) -> int:
    while leaders[place] != place:
        leaders[place] = leaders[leaders[place]]  # halves the path for the next search
        place = leaders[place]
    return place
