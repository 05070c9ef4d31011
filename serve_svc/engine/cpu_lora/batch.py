"""Which tokens of one step carry which adapter."""

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int32]


class BatchTables(ctypes.Structure):
    """A batch as `kernel.cpp` reads it: pointers into the arrays of the Batch that holds it."""

    _fields_ = (
        ("num_groups", ctypes.c_int64),
        ("num_tokens", ctypes.c_int64),
        ("slots", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("tokens", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens that carry an adapter, grouped by its slot; the base's are left out.

    Group g has the slot `slots[g]` and the rows `tokens[starts[g]:starts[g + 1]]` of a layer's input and output.
    """

    num_rows: int  # of input and output, the base's among them
    slots: Indices
    starts: Indices
    tokens: Indices
    slot_set: frozenset[int]
    tables: BatchTables

    @classmethod
    def from_slots(cls, slot_of_row: NDArray[np.int64]) -> "Batch":
        """Group rows by slot, in the order of their rows; a slot of -1 is the bare base."""
        order = np.argsort(slot_of_row, kind="stable")
        tokens = order[np.count_nonzero(slot_of_row < 0) :].astype(np.int32)
        used, firsts = np.unique(slot_of_row[tokens], return_index=True)
        slots, starts = used.astype(np.int32), np.append(firsts, len(tokens)).astype(np.int32)
        tables = BatchTables(len(slots), len(tokens), slots.ctypes.data, starts.ctypes.data, tokens.ctypes.data)
        return cls(len(slot_of_row), slots, starts, tokens, frozenset(slots.tolist()), tables)

    @property
    def address(self) -> int:
        """Where the kernel finds the tables."""
        return ctypes.addressof(self.tables)

    def groups(self) -> list[tuple[int, Indices]]:
        """Return each slot with its rows."""
        bounds = self.starts.tolist()
        return [
            (slot, self.tokens[first:last])
            for slot, first, last in zip(self.slots.tolist(), bounds, bounds[1:], strict=False)
        ]
