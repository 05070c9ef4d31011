"""Which rows a dataset has, and which of them are the same or nearly so; kept as numbers, about 600 bytes a row, never as text."""

import hashlib
from array import array
from collections.abc import Sequence

from trainer_svc.bots.entry import Entry
from trainer_svc.bots.sketches import Sketches


class RowIndex:
    """The rows of entries, counted from 0, in the order in which the entries were added."""

    def __init__(self) -> None:
        """Begin with none."""
        self.num_entries = 0
        self._entries = array("q")
        self._firsts = array("q")
        self._place_of: dict[bytes, int] = {}
        self._sketches = Sketches()

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self._entries)

    @property
    def num_single_rows(self) -> int:
        """How many entries have one row."""
        return self.count_rows().count(1)

    @property
    def entries(self) -> Sequence[int]:
        """The entry of each row, counted from 0."""
        return self._entries

    @property
    def firsts(self) -> Sequence[int]:
        """For each row the first row with the same key, often itself."""
        return self._firsts

    def add(self, entry: Entry) -> None:
        """Add the rows of an entry."""
        for key in entry.keys:
            digest = hashlib.blake2b(key.text.encode(), digest_size=16).digest()
            place = len(self._entries)
            self._entries.append(self.num_entries)
            self._firsts.append(self._place_of.setdefault(digest, place))
            self._sketches.add(key.text, apart=key.apart)
        self.num_entries += 1

    def count_rows(self) -> list[int]:
        """Return how many rows each entry has."""
        counts = [0] * self.num_entries
        for entry in self._entries:
            counts[entry] += 1
        return counts

    def group(self) -> list[int]:
        """Return for each row the first row of its group: rows that are nearly the same, or linked by such."""
        return self._sketches.group()

    def name_rows(self) -> list[tuple[int, int]]:
        """Return each row as (entry, row of the entry), both counted from 0."""
        return [(entry, row) for entry, count in enumerate(self.count_rows()) for row in range(count)]
