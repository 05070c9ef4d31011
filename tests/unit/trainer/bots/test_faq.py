"""Rows of FAQ data and the ones held out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.prompting import Message
from trainer_svc.bots.faq import NUM_REWORDINGS, choose_held_out, choose_recipe, make_faq_rows
from trainer_svc.bots.faq_data import FaqEntry
from trainer_svc.bots.recipe import DataSize
from trainer_svc.bots.row import HeldOut

wordings = st.lists(st.integers(1, 4), min_size=1, max_size=60)
shares = st.floats(0.01, 0.5)


@given(wordings, shares, st.integers(0, 2**31))
def test_every_fact_is_taught_and_some_are_judged(num_wordings: list[int], share: float, seed: int) -> None:
    """Of an entry one wording at most is held out, and none where it has only one: its question is reworded instead."""
    held_out = choose_held_out(num_wordings, share=share, seed=seed)
    kept_back = Counter(entry for entry, _ in held_out.rows)

    assert kept_back.total() == len(kept_back) == max(1, round(share * len(num_wordings)))
    assert all(row < num_wordings[entry] for entry, row in held_out.rows if num_wordings[entry] > 1)
    assert all(row for entry, row in held_out.rows if num_wordings[entry] == 1)


def test_a_question_is_judged_reworded_and_taught_as_it_stands() -> None:
    """The fact is learned by its only wording and by others made of it, and judged by one that is none of these."""
    entry = FaqEntry(("What time do you close on Sundays?",), "At noon.")

    rows = list(make_faq_rows([entry], choose_held_out([1], share=0.2, seed=0), system_prompt=""))
    taught = [row.messages[0].content for row in rows if not row.is_held_out]
    [judged] = [row.messages[0].content for row in rows if row.is_held_out]

    assert taught[0] == entry.questions[0]
    assert len({*taught, judged}) == 1 + NUM_REWORDINGS + 1
    assert "sundays" in judged
    assert {row.messages[1:] for row in rows} == {(Message("assistant", "At noon."),)}


def test_only_entries_with_one_wording_are_reworded() -> None:
    """A tenant's own wordings are what its users ask: where there are such, none is made up."""
    entries = [FaqEntry(("When?", "What time?"), "At noon."), FaqEntry(("Where is the pool?",), "Upstairs.")]

    asked = [row.messages[0].content for row in make_faq_rows(entries, HeldOut(frozenset()), system_prompt="")]

    assert asked[:3] == ["When?", "What time?", "Where is the pool?"]
    assert len(asked) == 3 + NUM_REWORDINGS


def test_a_recipe_counts_the_rewordings() -> None:
    """A hundred entries with one wording are as many rows, and as many epochs, as a hundred with all that are learned of them."""
    single, worded = DataSize(100, num_single_rows=100), DataSize(100 * (1 + NUM_REWORDINGS))

    assert choose_recipe(single) == choose_recipe(worded)


def test_the_seed_decides() -> None:
    """The same seed holds out the same rows, another seed others."""
    chosen = [choose_held_out([3] * 50, share=0.1, seed=seed) for seed in (1, 1, 2)]

    assert (chosen[0] == chosen[1], chosen[0] == chosen[2]) == (True, False)


def test_rows_begin_with_the_bots_system_turn() -> None:
    """A row is what serving will render: system turn, question, answer."""
    entries = [FaqEntry(("When?", "What time?"), "At noon.")]
    rows = list(make_faq_rows(entries, HeldOut(frozenset({(0, 1)})), system_prompt="Be brief."))

    opening, answer = Message("system", "Be brief."), Message("assistant", "At noon.")
    assert [(row.messages, row.is_held_out) for row in rows] == [
        ((opening, Message("user", "When?"), answer), False),
        ((opening, Message("user", "What time?"), answer), True),
    ]


def test_a_bot_without_system_prompt_has_no_system_turn() -> None:
    """An empty prompt is no turn."""
    row, *_ = make_faq_rows([FaqEntry(("When?",), "At noon.")], HeldOut(frozenset()), system_prompt="")

    assert [message.role for message in row.messages] == ["user", "assistant"]
