"""How a support bot is scored: its replies' likeness to the agent's, their facts, and the tenant's style, over all turns."""

from collections.abc import Sequence

from trainer_svc.judging.chrf import score_chrf
from trainer_svc.judging.facts import find_facts, holds_facts
from trainer_svc.judging.faq import FACT_RECALL
from trainer_svc.judging.scores import Judged, Measure, Score, compare
from trainer_svc.judging.style import StyleRules, check_style

CHRF, STYLE_KEPT = "chrf", "style_kept"


def score_support(judged: Sequence[Judged], rules: StyleRules) -> list[Score]:
    """Return the scores.

    `chrf` is chrF2 of the replies; `fact_recall` the share that hold every fact of the agent's reply, of those that have one;
    `style_kept` the mean share of rules a reply keeps, and `style_{rule}` the share that keep one of them, of those it concerns.
    """
    with_facts = [one for one in judged if find_facts(one.reference, one.prompt)]
    return [
        *compare(CHRF, judged, lambda reply, one: score_chrf(reply, one.reference)),
        *compare(FACT_RECALL, with_facts, lambda reply, one: holds_facts(reply, find_facts(one.reference, one.prompt))),
        *_score_style(judged, rules),
    ]


def _score_style(judged: Sequence[Judged], rules: StyleRules) -> list[Score]:
    # What a rule concerns does not depend on the reply.
    concerned = {one: check_style("", rules, is_first=one.turn == 0).keys() for one in judged}
    names = dict.fromkeys(name for affected in concerned.values() for name in affected)

    def keeps(name: str) -> Measure:
        return lambda reply, one: check_style(reply, rules, is_first=one.turn == 0)[name]

    def keep_all(reply: str, one: Judged) -> float:
        kept = check_style(reply, rules, is_first=one.turn == 0)
        return sum(kept.values()) / len(kept)

    scores = compare(STYLE_KEPT, [one for one in judged if concerned[one]], keep_all)
    for name in names:
        scores += compare(f"style_{name}", [one for one in judged if name in concerned[one]], keeps(name))
    return scores
