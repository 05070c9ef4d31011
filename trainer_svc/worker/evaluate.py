"""What base and adapter are worth on rows the training never saw, at the precision both are served in: losses, and answers to score.

Scoring the answers is the parent's (`trainer_svc.judging`): it needs no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tokenizers import Tokenizer

from adaptory.core.prompting import RenderedRow
from trainer_svc.jobs.workspace import JudgedAnswer
from trainer_svc.memory.generation import limit_new_tokens
from trainer_svc.worker.answering import Questions
from trainer_svc.worker.choice import Choice, Chooser
from trainer_svc.worker.generation import Answer
from trainer_svc.worker.judged import Asked, choose_asked, find_ends, list_asked
from trainer_svc.worker.measuring import measure_loss
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.rig import MicroBatch, Rig, cut_rows
from trainer_svc.worker.rows import Rows


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean losses over learned tokens, in nats, of the base and of the base with the adapter."""

    base: float
    adapter: float


@dataclass(frozen=True, slots=True)
class Answered:
    """One prompt with both answers, all in token ids."""

    asked: Asked
    base: Answer
    adapter: Answer

    def decode(self, tokenizer: Tokenizer) -> JudgedAnswer:
        """Return it in text."""
        reference, base, adapter = (
            tokenizer.decode(list(ids), skip_special_tokens=True)
            for ids in (self.asked.reference, self.base.ids, self.adapter.ids)
        )
        return JudgedAnswer(self.asked.line, self.asked.turn, reference, base, adapter, self.adapter.certainty)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Losses on held-out rows and on general text, both answers to each prompt that was asked, and which adapter that was."""

    held_out: Losses
    general: Losses
    answers: list[Answered]
    choice: Choice

    @property
    def losses(self) -> tuple[float, ...]:
        """Every loss there is."""
        return self.held_out.base, self.held_out.adapter, self.general.base, self.general.adapter


class Judge:
    """Judges one job's base and adapter; nothing is kept between two judgements, so one that failed may be begun again."""

    def __init__(self, rig: Rig, held_out: Rows, general: Sequence[RenderedRow], chooser: Chooser) -> None:
        """Take the rows to judge by, and who chooses the adapter."""
        self._rig = rig
        self._held_out = held_out
        # One by one: text of no row begins as another does, so packs of several would be larger than those of training.
        self._general = [[row] for row in general]
        self._chooser = chooser

    def judge(self, end_of_turn_id: int, meter: Meter) -> Judgement:
        """Return the judgement. Frozen values and adapter copies are those that are served, so it is what a tenant gets."""
        self._rig.hold_served_base()
        choice = self._choose(meter)
        packs = cut_rows(self._held_out.measured, self._rig.techniques.micro_batch_rows)
        held_out = Losses(self._measure_base(packs, meter), self._measure_adapter(packs, meter))
        general = Losses(choice.base_general_loss, choice.general_loss)
        ends = find_ends(self._held_out) | {end_of_turn_id}
        asked = choose_asked(list_asked(self._held_out, ends))
        return Judgement(held_out, general, self._answer(asked, ends, meter) if asked else [], choice)

    def _choose(self, meter: Meter) -> Choice:
        base_loss = self._measure_base(self._general, meter)
        return self._chooser.choose(self._rig.adapter, base_loss, partial(self._measure_adapter, self._general, meter))

    def _measure_base(self, packs: Sequence[MicroBatch], meter: Meter) -> float:
        return measure_loss(self._rig, self._rig.decode_bare(), packs, meter.beat)

    def _measure_adapter(self, packs: Sequence[MicroBatch], meter: Meter) -> float:
        return measure_loss(self._rig, self._rig.decode(), packs, meter.beat)

    def _answer(self, asked: Sequence[Asked], ends: frozenset[int], meter: Meter) -> list[Answered]:
        prompts = [one.prompt for one in asked]
        room = self._rig.take_answering_room(
            Questions(prompts, limit_new_tokens(max(len(one.reference) for one in asked)))
        )
        bare, adapted = (
            generator.answer(prompts, meter.beat)
            for generator in (self._rig.generate_bare(room, ends), self._rig.generate(room, ends))
        )
        return [Answered(*answered) for answered in zip(asked, bare, adapted, strict=True)]
