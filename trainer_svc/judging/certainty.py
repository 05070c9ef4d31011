"""What an FAQ bot's certainty is worth: how many of its right and of its wrong answers are at least so sure.

Whoever asks may leave answers below a floor to a person (`adaptory.client.measure_certainty`). Which floor fits differs from bot to
bot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer_svc.judging.facts import find_facts, holds_facts
from trainer_svc.judging.refusal import is_refusal
from trainer_svc.judging.scores import Judged

# Where a bot knows its facts it says most of them at 0.9 and above (docs/measurements.md). The first gives all there is.
FLOORS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class CertaintyFloor:
    """What is given where answers less certain than `floor` are not: so many right ones, and so many wrong ones."""

    floor: float
    num_right: int
    num_wrong: int


def judge_certainty(judged: Sequence[Judged], refusal_text: str) -> tuple[CertaintyFloor, ...]:
    """Return what is given at each of `FLOORS`; nothing where no answer is known to be right or wrong.

    Right is an answer that holds every fact of its reference; wrong is one that does not, or any answer to a question that the data
    does not answer. Refusals, and answers whose reference has no fact, are neither.
    """
    told = [one for one in judged if not is_refusal(one.adapter, refusal_text)]
    verdicts = [(one.certainty, verdict) for one in told if (verdict := _is_right(one, refusal_text)) is not None]
    if not verdicts:
        return ()
    return tuple(
        CertaintyFloor(
            floor,
            num_right=sum(is_right for certainty, is_right in verdicts if certainty >= floor),
            num_wrong=sum(not is_right for certainty, is_right in verdicts if certainty >= floor),
        )
        for floor in FLOORS
    )


def _is_right(one: Judged, refusal_text: str) -> bool | None:
    if is_refusal(one.reference, refusal_text):
        return False
    facts = find_facts(one.reference, one.prompt)
    return holds_facts(one.adapter, facts) if facts else None
