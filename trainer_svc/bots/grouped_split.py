"""Which conversations or files are held out for judging: whole ones, and those that are nearly the same stay on one side.

Else what is held out would ask for what was trained.
"""

import random
from collections import Counter
from collections.abc import Sequence

from trainer_svc.bots.row import HeldOut
from trainer_svc.bots.row_index import RowIndex


def hold_out(index: RowIndex, *, share: float, seed: int) -> HeldOut:
    """Choose the entries to hold out, as `choose_held_out` does."""
    return choose_held_out(index.group(), share=share, seed=seed)


def choose_held_out(groups: Sequence[int], *, share: float, seed: int) -> HeldOut:
    """Choose the entries to hold out of those with these groups; the same arguments choose the same ones.

    Whole groups up to a `share` of the entries, and one group at least. Where all are one group it is split after all: without any
    row held out nothing could be judged, and the data's report says that they are alike. There must be two entries.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    if len(set(groups)) == 1:
        groups = range(len(groups))
    sizes = Counter(groups)
    order = chance.sample(sorted(sizes), len(sizes))
    room = max(1, round(share * len(groups)))
    chosen: set[int] = set()
    for group in order:
        if sizes[group] <= room:
            chosen.add(group)
            room -= sizes[group]
    if not chosen:
        chosen.add(min(order, key=lambda group: sizes[group]))
    return HeldOut(frozenset((place, 0) for place, group in enumerate(groups) if group in chosen))
