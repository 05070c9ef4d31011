"""How each kind of bot is taught, chosen here alone. A kind is served once it has its place in the table."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adaptory.core.errors import NotServed
from trainer_svc.bots import faq, support
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.recipe import Recipe
from trainer_svc.bots.row import HeldOut, Row, make_rows
from trainer_svc.bots.row_index import RowIndex


class HoldOut(Protocol):
    """Chooses the rows that are kept from training; the same arguments choose the same rows."""

    def __call__(self, index: RowIndex, *, share: float, seed: int) -> HeldOut:
        """Return at least one row, and not all; the index must have two."""


class MakeRows(Protocol):
    """Makes rows of the entries of the kind's formats."""

    def __call__(self, entries: Iterable[Any], held_out: HeldOut, *, system_prompt: str) -> Iterator[Row]:
        """Yield the rows in the order of the data."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """What one kind of bot makes of a dataset."""

    choose_recipe: Callable[[int], Recipe]
    hold_out: HoldOut
    make_rows: MakeRows


_TEACHINGS: Mapping[BotKind, Teaching] = {
    BotKind.FAQ: Teaching(faq.choose_recipe, faq.hold_out, make_rows),
    BotKind.SUPPORT: Teaching(support.choose_recipe, support.hold_out, make_rows),
}


def teaching_of(kind: BotKind) -> Teaching:
    """Return how bots of a kind are taught. Raises NotServed, with the kinds that are, where they cannot be yet."""
    if kind not in _TEACHINGS:
        served = ", ".join(_TEACHINGS)
        raise NotServed(f"Bots of kind {kind} are not served yet; served are: {served}.", metadata={"served": served})
    return _TEACHINGS[kind]


def served_kinds() -> tuple[BotKind, ...]:
    """Return the kinds of bots that can be trained."""
    return tuple(_TEACHINGS)
