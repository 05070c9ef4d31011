"""Rows of FAQ data and the ones held out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.prompting import Message
from trainer_svc.bots.faq import choose_held_out
from trainer_svc.bots.faq_data import FaqEntry
from trainer_svc.bots.row import HeldOut, make_rows

wordings = st.lists(st.integers(1, 4), min_size=1, max_size=60).filter(lambda numbers: sum(numbers) > 1)
shares = st.floats(0.01, 0.5)


@given(wordings, shares, st.integers(0, 2**31))
def test_both_sides_get_a_row(num_wordings: list[int], share: float, seed: int) -> None:
    """At least one row is held out and at least one is trained on, whatever the data."""
    held_out = choose_held_out(num_wordings, share=share, seed=seed)

    assert 1 <= len(held_out.rows) < sum(num_wordings)


@given(wordings.filter(lambda numbers: max(numbers) > 1), shares, st.integers(0, 2**31))
def test_no_fact_is_held_out_whole(num_wordings: list[int], share: float, seed: int) -> None:
    """Of an entry with several wordings one at most is held out: the fact itself is taught."""
    held_out = Counter(entry for entry, _ in choose_held_out(num_wordings, share=share, seed=seed).rows)

    assert all(number == 1 and num_wordings[entry] > 1 for entry, number in held_out.items())


def test_without_second_wordings_entries_are_held_out() -> None:
    """Data that asks each thing once gives up a share of its entries."""
    assert len(choose_held_out([1] * 40, share=0.1, seed=0).rows) == 4


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
