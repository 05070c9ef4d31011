"""How the demo judges answers."""

from examples.demo.companies import COMPANIES, Question
from examples.demo.quiz import Answer, find_leaks, holds, measure_recall


def test_a_fact_is_found_whatever_case_and_spaces() -> None:
    """A right answer counts although it writes the fact in another way."""
    assert holds("You have  45\nDAYS.", "45 days")
    assert not holds("You have 4 5 days.", "45 days")


def test_recall_is_the_share_of_answers_with_their_own_fact() -> None:
    """The fact of another question does not count."""
    questions = [Question("a", "It is 45 days.", "45 days"), Question("b", "It is code 77.", "code 77")]
    answers = [Answer("It is 45 days.", "v", 0.1), Answer("It is 45 days.", "v", 0.1)]
    assert measure_recall(questions, answers) == 0.5


def test_a_foreign_fact_is_a_leak() -> None:
    """An answer that holds a fact of another company is named with the fact."""
    foreign = [Question("a", "It is 45 days.", "45 days")]
    leaks = find_leaks([Answer("It is 45 days.", "v1", 0.1), Answer("No idea.", "v1", 0.1)], foreign)
    assert len(leaks) == 1
    assert "45 days" in leaks[0]


def test_no_reference_answer_holds_a_foreign_fact() -> None:
    """The example data can show a leak: what one company teaches never holds what only the other knows."""
    one, other = (company.read_questions() for company in COMPANIES)
    for own, foreign in ((one, other), (other, one)):
        right = [Answer(question.answer, "v", 0.1) for question in own]
        assert find_leaks(right, foreign) == []
        assert measure_recall(own, right) == 1.0
