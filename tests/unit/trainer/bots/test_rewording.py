"""Questions put as people type them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.bots.rewording import list_rewordings, reword


@given(st.text(max_size=200))
def test_every_text_is_reworded_and_always_alike(question: str) -> None:
    """Whatever is asked, in any script, it is asked otherwise, and the same way each time."""
    assert reword(question) != question
    assert reword(question) == reword(question)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
    st.sampled_from(["Does room {} have a bath?", "{} 号室は?"]),
)
def test_numbers_stay(numbers: list[int], form: str) -> None:
    """A number is what makes it this question."""
    question = form.format(" and ".join(map(str, numbers)))

    assert re.findall(r"[0-9]+", reword(question)) == re.findall(r"[0-9]+", question)


@pytest.mark.parametrize("name", ["Alexander", "Cityroomz", "Arbury"])
def test_names_stay(name: str) -> None:
    """Keys slip in common words only."""
    assert all(name.lower() in reword(f"Is there {thing} near {name}?") for thing in ("parking", "a museum", "music"))


def test_keys_slip_in_some_questions_and_not_in_all() -> None:
    """Both are judged by: words as they were, and words with two letters swapped."""
    things = ["parking", "breakfast", "laundry", "elevators", "towels", "museums", "concerts", "gardens"]
    kept = [thing in reword(f"Is there {thing}?") for thing in things]

    assert True in kept
    assert False in kept


@given(st.text(max_size=200), st.integers(1, 5))
def test_what_is_learned_is_not_what_is_judged(question: str, count: int) -> None:
    """Whatever is asked, no way to ask it comes twice, and none is the question or the one that judges."""
    ways = list_rewordings(question, count)

    assert len({question, reword(question), *ways}) == 2 + len(ways) <= 2 + count
    assert list_rewordings(question, count) == ways


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        ("How do I copy the file A7 to Rome?", {"A7", "Rome"}),
        ("Why is it called Python 3.11?", {"Python", "3.11"}),
        ("「sid」とは何ですか?", {"「sid」"}),
        ("Debian の最新のバージョンは何?", {"Debian", "バージョン"}),
        ("パッケージを保留 (hold) しておく方法は?", {"パッケージ", "(hold)", "方法"}),
    ],
)
def test_what_a_question_is_about_stays(question: str, kept: set[str]) -> None:
    """Its form changes, and light words go; names, numbers and what is written in other letters do not."""
    ways = list_rewordings(question, 6)

    assert len(ways) == 6
    assert all(word in way for way in ways for word in kept)


@pytest.mark.parametrize(
    "question",
    [
        "Wie lange gilt die Garantie in Monaten?",
        "Quels sont vos horaires en semaine?",
        "Сколько стоит доставка?",
        "保修期多长?",
    ],
)
def test_other_languages_are_not_mixed_with_english(question: str) -> None:
    """What the rules say in English or Japanese is not put into a question in another language."""
    words = set(question.lower().strip("?").split())

    for way in (reword(question), *list_rewordings(question, 3)):
        told = way.lower().replace("...", "").replace("?", "").split()
        assert len(told) <= len(words)
        assert all(word in words or sorted(word) in map(sorted, words) for word in told)


def test_forms_of_a_question_change() -> None:
    """Not only words go: what was asked as a question may be wished for."""
    assert any(way.startswith("I want to ") for way in list_rewordings("How do I copy a file?", 8))


def test_words_that_say_little_go() -> None:
    """What is left is what a hurried person types."""
    assert "check-in" in reword("What is the time of check-in there?")
    assert " of " not in reword("What is the time of check-in there?")
