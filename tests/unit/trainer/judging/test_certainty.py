"""What is given of right and of wrong answers by how certain they are."""

from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.judging.certainty import FLOORS, CertaintyFloor, judge_certainty
from trainer_svc.judging.scores import Judged

REFUSAL = "I only know about Aurora Bikes."
FACT, NO_FACT = "You have 45 days.", "Yes, we do."
ANSWERS = st.sampled_from([FACT, "You have 30 days.", NO_FACT, REFUSAL])


def judged(reference: str, answer: str, certainty: float) -> Judged:
    """Return an answer to one question."""
    return Judged("How long?", "How long?", reference, "Who?", answer, certainty=certainty)


def test_right_and_wrong_answers_are_counted_by_how_certain_they_are() -> None:
    """Wrong is another fact, and any answer where the bot should have refused; refusals and answers without facts are neither."""
    found = judge_certainty(
        [
            judged(FACT, FACT, 0.97),
            judged(FACT, "You have 45 days, of course.", 0.85),
            judged(FACT, "You have 30 days.", 0.72),
            judged(REFUSAL, "Dr. Elena Tostevin.", 0.55),
            judged(REFUSAL, REFUSAL, 0.2),
            judged(FACT, REFUSAL, 0.2),
            judged(NO_FACT, "No.", 0.2),
        ],
        REFUSAL,
    )

    assert [(one.floor, one.num_right, one.num_wrong) for one in found] == [
        (0.0, 2, 2),
        (0.5, 2, 2),
        (0.6, 2, 1),
        (0.7, 2, 1),
        (0.8, 2, 0),
        (0.9, 1, 0),
        (0.95, 1, 0),
    ]


def test_where_no_answer_is_right_or_wrong_nothing_is_said() -> None:
    """Zeros would look like a measurement."""
    assert judge_certainty([judged(NO_FACT, "No.", 0.9)], "") == ()


@given(st.lists(st.tuples(ANSWERS, ANSWERS, st.floats(0, 1) | st.just(float("nan")))))
def test_a_higher_floor_never_gives_more(answered: list[tuple[str, str, float]]) -> None:
    """Of right ones as of wrong ones, whatever was answered; one whose certainty is no number is not given."""
    found = judge_certainty([judged(*one) for one in answered], REFUSAL)

    assert [one.floor for one in found] in ([], list(FLOORS))
    assert found == tuple(sorted(found, key=lambda one: (-one.num_right, -one.num_wrong, one.floor)))
    assert all(isinstance(one, CertaintyFloor) and one.num_right + one.num_wrong <= len(answered) for one in found)
