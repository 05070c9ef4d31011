"""How an FAQ bot is scored: the facts of its answers, their words, and that it refuses what it was not taught and nothing else."""

from collections.abc import Sequence

from trainer_svc.judging.facts import find_facts, holds_facts
from trainer_svc.judging.overlap import score_token_f1
from trainer_svc.judging.refusal import is_refusal
from trainer_svc.judging.scores import Judged, Score, compare

FACT_RECALL, TOKEN_F1 = "fact_recall", "token_f1"
REFUSALS, FALSE_REFUSALS = "refusals", "false_refusals"


def score_faq(judged: Sequence[Judged], refusal_text: str) -> list[Score]:
    """Return the scores; a prompt whose reference is the taught refusal is one that the tenant's data does not answer.

    `fact_recall` is the share of answers that hold every fact of their reference, of those whose reference has one. `refusals` is the
    share of unanswerable prompts that are refused, `false_refusals` that of the others.
    """
    answerable = [one for one in judged if not is_refusal(one.reference, refusal_text)]
    unanswerable = [one for one in judged if is_refusal(one.reference, refusal_text)]
    with_facts = [one for one in answerable if find_facts(one.reference, one.prompt)]
    scores = compare(FACT_RECALL, with_facts, _recall_facts) + compare(TOKEN_F1, answerable, _measure_f1)
    if not refusal_text:
        return scores

    def refuses(answer: str, _: Judged) -> float:
        return float(is_refusal(answer, refusal_text))

    return [
        *scores,
        *compare(REFUSALS, unanswerable, refuses),
        *compare(FALSE_REFUSALS, answerable, refuses, is_lower_better=True),
    ]


def _recall_facts(answer: str, one: Judged) -> float:
    return float(holds_facts(answer, find_facts(one.reference, one.prompt)))


def _measure_f1(answer: str, one: Judged) -> float:
    return score_token_f1(answer, one.reference)
