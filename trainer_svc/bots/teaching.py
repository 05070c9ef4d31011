"""How each kind of bot is taught, chosen here alone. A kind is served once it has its place in the table."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import NotServed
from adaptory.core.fim import FimRenderer
from trainer_svc.bots import code, faq, grouped_split, support
from trainer_svc.bots.code_file import CodeFile
from trainer_svc.bots.code_task import CodeTask
from trainer_svc.bots.entry import ChatEntry
from trainer_svc.bots.faq_data import FaqEntry
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.recipe import DataSize, Recipe
from trainer_svc.bots.refusals import RefusalLesson, teach_refusal
from trainer_svc.bots.row import HeldOut, make_rows
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.bots.row_rendering import LearnedRow
from trainer_svc.jobs.workspace import TrainingSettings


@dataclass(frozen=True, slots=True)
class Lesson:
    """What besides the data decides the rows of a job: the bot's system turn, its training's settings, its base, its refusal."""

    system_prompt: str
    training: TrainingSettings
    base: PreparedBase
    refusal: RefusalLesson = field(default_factory=RefusalLesson)


class HoldOut(Protocol):
    """Chooses the rows that are kept from training; the same arguments choose the same rows."""

    def __call__(self, index: RowIndex, *, share: float, seed: int) -> HeldOut:
        """Return at least one row, and not all; the index must have two."""


class MakeRows(Protocol):
    """Makes rows of the entries of the kind's formats."""

    def __call__(self, entries: Iterable[Any], held_out: HeldOut, lesson: Lesson, /) -> Iterator[LearnedRow]:
        """Yield the rows in the order of the data. Raises InvalidRequest where the lesson does not do for them."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """What one kind of bot makes of a dataset."""

    choose_recipe: Callable[[DataSize], Recipe]
    hold_out: HoldOut
    make_rows: MakeRows


def _make_chat_rows(entries: Iterable[ChatEntry], held_out: HeldOut, lesson: Lesson) -> Iterator[LearnedRow]:
    return make_rows(entries, held_out, system_prompt=lesson.system_prompt)


def _make_faq_rows(entries: Iterable[FaqEntry], held_out: HeldOut, lesson: Lesson) -> Iterator[LearnedRow]:
    rows = faq.make_faq_rows(entries, held_out, system_prompt=lesson.system_prompt)
    return teach_refusal(rows, lesson.refusal, system_prompt=lesson.system_prompt, seed=lesson.training.seed)


def _make_code_rows(files: Iterable[CodeFile | CodeTask], held_out: HeldOut, lesson: Lesson) -> Iterator[LearnedRow]:
    base = lesson.base
    renderer = FimRenderer.from_files(base.tokenizer_file, base.fim, base.end_of_turn)
    return code.make_rows(files, held_out, renderer, lesson.training)


_TEACHINGS: Mapping[BotKind, Teaching] = {
    BotKind.FAQ: Teaching(faq.choose_recipe, faq.hold_out, _make_faq_rows),
    BotKind.SUPPORT: Teaching(support.RECIPE_RULE.choose, grouped_split.hold_out, _make_chat_rows),
    BotKind.CODE_COMPLETION: Teaching(code.choose_recipe, grouped_split.hold_out, _make_code_rows),
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
