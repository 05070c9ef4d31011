"""Rows of FAQ data and the ones held out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.prompting import Message
from trainer_svc.bots.faq import choose_held_out
from trainer_svc.bots.faq_data import FaqEntry
from trainer_svc.bots.row import HeldOut, make_rows

wordings = st.lists(st.integers(1, 4), min_size=1, max_size=60)
shares = st.floats(0.01, 0.5)


@given(wordings, shares, st.integers(0, 2**31))
def test_every_fact_is_taught_and_some_are_judged(num_wordings: list[int], share: float, seed: int) -> None:
    """Of an entry one wording at most is held out, and none where it has only one: its question is reworded instead."""
    held_out = choose_held_out(num_wordings, share=share, seed=seed)
    kept_back = Counter(entry for entry, _ in held_out.rows)

    assert len(kept_back) + len(held_out.reworded) == max(1, round(share * len(num_wordings)))
    assert all(number == 1 and num_wordings[entry] > 1 for entry, number in kept_back.items())
    assert all(num_wordings[entry] == 1 for entry in held_out.reworded)


def test_a_question_is_judged_reworded_and_taught_as_it_stands() -> None:
    """The fact is learned by its only wording, and judged by another with the same answer."""
    entry = FaqEntry(("What time do you close on Sundays?",), "At noon.")

    taught, judged = make_rows([entry], HeldOut(frozenset(), frozenset({0})), system_prompt="")

    assert (taught.is_held_out, judged.is_held_out) == (False, True)
    assert taught.messages[0].content == entry.questions[0]
    assert judged.messages[0].content != entry.questions[0]
    assert "sundays" in judged.messages[0].content
    assert judged.messages[1:] == taught.messages[1:]


def test_the_seed_decides() -> None:
    """The same seed holds out the same rows, another seed others."""
    chosen = [choose_held_out([3] * 50, share=0.1, seed=seed) for seed in (1, 1, 2)]

    assert (chosen[0] == chosen[1], chosen[0] == chosen[2]) == (True, False)


def test_rows_begin_with_the_bots_system_turn() -> None:
    """A row is what serving will render: system turn, question, answer."""
    entries = [FaqEntry(("When?", "What time?"), "At noon.")]
    rows = list(make_rows(entries, HeldOut(frozenset({(0, 1)})), system_prompt="Be brief."))

    opening, answer = Message("system", "Be brief."), Message("assistant", "At noon.")
    assert [(row.messages, row.is_held_out) for row in rows] == [
        ((opening, Message("user", "When?"), answer), False),
        ((opening, Message("user", "What time?"), answer), True),
    ]


def test_a_bot_without_system_prompt_has_no_system_turn() -> None:
    """An empty prompt is no turn."""
    (row,) = make_rows([FaqEntry(("When?",), "At noon.")], HeldOut(frozenset()), system_prompt="")

    assert [message.role for message in row.messages] == ["user", "assistant"]
