"""Scores the answers of one job by the bot's kind, and picks those that are shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer_svc.bots.kinds import BotKind
from trainer_svc.judging.certainty import CertaintyFloor, judge_certainty
from trainer_svc.judging.code import score_code
from trainer_svc.judging.evaluation import SampleAnswer
from trainer_svc.judging.faq import score_faq
from trainer_svc.judging.scores import Judged, Score
from trainer_svc.judging.style import StyleRules
from trainer_svc.judging.support import score_support

MAX_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a bot's answers are scored by, besides their references."""

    kind: BotKind
    refusal_text: str = ""
    style: StyleRules = field(default_factory=StyleRules)


def score_answers(judged: Sequence[Judged], criteria: Criteria) -> tuple[Score, ...]:
    """Return the scores of the bot's kind, its main score first."""
    match criteria.kind:
        case BotKind.FAQ:
            return tuple(score_faq(judged, criteria.refusal_text))
        case BotKind.SUPPORT:
            return tuple(score_support(judged, criteria.style))
        case BotKind.CODE_COMPLETION:
            return tuple(score_code(judged))


def weigh_certainty(judged: Sequence[Judged], criteria: Criteria) -> tuple[CertaintyFloor, ...]:
    """Return what certainty is worth; nothing for kinds whose answers are not right or wrong by their facts."""
    return judge_certainty(judged, criteria.refusal_text) if criteria.kind is BotKind.FAQ else ()


def pick_samples(judged: Sequence[Judged], max_samples: int = MAX_SAMPLES) -> tuple[SampleAnswer, ...]:
    """Return at most so many answers, spread evenly over all."""
    num_picked = min(max_samples, len(judged))
    picked = [judged[place * len(judged) // num_picked] for place in range(num_picked)]
    return tuple(SampleAnswer(one.question, one.reference, one.base, one.adapter) for one in picked)
