"""The gate: what passes, and what each reason says."""

from dataclasses import replace

import pytest

from trainer_svc.bots.kinds import BotKind
from trainer_svc.judging.answers import Criteria, pick_samples, score_answers
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.gate import QualityGate, find_faults
from trainer_svc.judging.scores import Judged, Score

REFUSAL = "I only know about Aurora Bikes."
GOOD = Evaluation(
    base_loss=3.0,
    adapter_loss=0.5,
    num_held_out_rows=10,
    num_train_rows=100,
    train_tokens_per_second=400.0,
    train_seconds=10.0,
    base_general_loss=3.0,
    adapter_general_loss=3.4,
    scores=(
        Score("fact_recall", base=0.0, adapter=0.9, num_answers=10),
        Score("false_refusals", base=0.0, adapter=0.1, num_answers=10, is_lower_better=True),
    ),
)
NAN = float("nan")


def ask(answer: str, *, reference: str = "It is 47.", base: str = "Hello.") -> Judged:
    """Return one question with its answers."""
    return Judged(prompt="How long?", question="How long?", reference=reference, base=base, adapter=answer)


def with_score(**changes: object) -> Evaluation:
    """Return a good evaluation with another main score."""
    return replace(GOOD, scores=(replace(GOOD.scores[0], **changes), *GOOD.scores[1:]))  # type: ignore[arg-type]


def test_a_version_that_beats_its_base_and_spoils_nothing_passes() -> None:
    """By the defaults."""
    assert find_faults(BotKind.FAQ, QualityGate(), GOOD) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (replace(GOOD, adapter_loss=3.01), ("held-out loss is 3.01", "the base's 3", "at most 1 ")),
        (replace(GOOD, adapter_loss=NAN), ("held-out loss is nan",)),
        (replace(GOOD, adapter_general_loss=5.1), ("general text is 5.1", "the base's 3", "at most 2.")),
        (replace(GOOD, adapter_general_loss=NAN), ("general text is nan",)),
        (with_score(adapter=0.3), ("fact_recall is 0.300", "0.000", "10 held-out answers", "0.35")),
        (with_score(base=0.9), ("fact_recall is 0.900, the base's 0.900",)),
        (replace(GOOD, scores=(replace(GOOD.scores[1], adapter=0.2),)), ("refuses 20.0% of 10", "10.0%")),
    ],
)
def test_each_reason_is_a_sentence_with_its_numbers(found: Evaluation, words: tuple[str, ...]) -> None:
    """What was measured, of how many, the limit and the way out."""
    faults = find_faults(BotKind.FAQ, QualityGate(), found)

    assert len(faults) == 1
    assert all(word in faults[0] for word in (*words, "change the bot's gate."))


@pytest.mark.parametrize(
    ("gate", "found"),
    [
        (QualityGate(max_loss_ratio=2.0), replace(GOOD, adapter_loss=5.0)),
        (QualityGate(max_general_loss_rise=4.0), replace(GOOD, adapter_general_loss=6.9)),
        (QualityGate(min_gain=-1.0), with_score(adapter=0.0)),
        (QualityGate(max_false_refusals=1.0), replace(GOOD, scores=(replace(GOOD.scores[1], adapter=1.0),))),
    ],
)
def test_a_bots_own_threshold_stands_in_for_the_default(gate: QualityGate, found: Evaluation) -> None:
    """Each can be widened by itself."""
    assert find_faults(BotKind.FAQ, gate, found) == []
    assert len(find_faults(BotKind.FAQ, QualityGate(), found)) == 1


@pytest.mark.parametrize(
    ("adapter", "num_tests", "gate", "is_stopped"),
    [
        (0.2, 20, QualityGate(), True),
        (0.26, 20, QualityGate(), False),
        (float("nan"), 20, QualityGate(), True),
        (0.0, 19, QualityGate(), False),
        (0.2, 20, QualityGate(max_pass_fall=0.2), False),
    ],
)
def test_code_that_passes_fewer_tests_is_stopped(
    adapter: float,
    num_tests: int,
    gate: QualityGate,
    is_stopped: bool,  # noqa: FBT001
) -> None:
    """Likeness does not hide that it no longer runs; on a handful of tests nothing is said."""
    passed = Score("pass_at_1", base=0.3, adapter=adapter, num_answers=num_tests)
    found = replace(GOOD, scores=(Score("edit_similarity", base=0.2, adapter=0.8, num_answers=90), passed))

    faults = find_faults(BotKind.CODE_COMPLETION, gate, found)

    assert [("held-out tests, the base 30.0%" in fault) for fault in faults] == [True] * is_stopped


def test_an_adapter_of_shuffled_answers_is_stopped() -> None:
    """It sounds like the tenant, its losses are lower than the base's, and its facts are those of other questions."""
    judged = [ask(f"It is {number + 1}.", reference=f"It is {number}.") for number in range(20, 30)]
    found = replace(GOOD, scores=score_answers(judged, Criteria(BotKind.FAQ)))

    assert ["fact_recall is 0.000" in fault for fault in find_faults(BotKind.FAQ, QualityGate(), found)] == [True]


def test_answers_without_facts_are_judged_by_their_words() -> None:
    """Where no reference has a fact, token F1 is the main score."""
    judged = [ask("yes, every day.", reference="yes, every day", base="no idea at all")]
    scores = score_answers(judged, Criteria(BotKind.FAQ))
    found = replace(GOOD, scores=scores)

    assert [score.name for score in scores] == ["token_f1"]
    assert find_faults(BotKind.FAQ, QualityGate(), found) == []
    assert len(find_faults(BotKind.FAQ, QualityGate(), replace(GOOD, scores=(replace(scores[0], adapter=0),)))) == 1


def test_refusals_are_counted_apart_from_answers() -> None:
    """Questions the data does not answer are to be refused, and the others are not."""
    judged = [ask("It is 47."), ask(REFUSAL), ask(REFUSAL, reference=REFUSAL), ask("It is 5.", reference=REFUSAL)]
    scores = {score.name: score for score in score_answers(judged, Criteria(BotKind.FAQ, REFUSAL))}

    assert {name: (score.base, score.adapter, score.num_answers) for name, score in scores.items()} == {
        "fact_recall": (0, 0.5, 2),
        "token_f1": (0, pytest.approx(0.5, abs=0.1), 2),
        "refusals": (0, 0.5, 2),
        "false_refusals": (0, 0.5, 2),
    }


def test_samples_are_spread_over_all_answers() -> None:
    """Ten of a hundred are not the first ten."""
    samples = pick_samples([ask(str(number)) for number in range(100)])

    assert [sample.adapter for sample in samples] == [str(number) for number in range(0, 100, 10)]
    assert pick_samples([]) == ()
