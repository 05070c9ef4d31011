"""Which conversations are held out, and the rows they become."""

from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.prompting import Message
from trainer_svc.bots.grouped_split import choose_held_out, hold_out
from trainer_svc.bots.row import HeldOut, make_rows
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.bots.support_data import Conversation

groupings = st.lists(st.integers(0, 12), min_size=2, max_size=60)
shares = st.floats(0.01, 0.5)


@given(groupings, shares, st.integers(0, 2**31))
def test_both_sides_get_a_conversation_and_no_group_straddles(groups: list[int], share: float, seed: int) -> None:
    """One at least is held out and one stays; of a group either all or none, unless it is the only group."""
    held_out = {place for place, _ in choose_held_out(groups, share=share, seed=seed).rows}

    assert 1 <= len(held_out) < len(groups)
    if len(set(groups)) > 1:
        assert not {groups[place] for place in held_out} & {
            group for place, group in enumerate(groups) if place not in held_out
        }


@given(st.integers(20, 200), shares, st.integers(0, 2**31))
def test_the_share_is_kept_where_no_two_are_alike(number: int, share: float, seed: int) -> None:
    """Of conversations that are all different just the share is held out."""
    assert len(choose_held_out(range(number), share=share, seed=seed).rows) == max(1, round(share * number))


def test_the_seed_decides() -> None:
    """The same seed holds out the same conversations, another seed others."""
    chosen = [choose_held_out(range(50), share=0.1, seed=seed) for seed in (1, 1, 2)]

    assert (chosen[0] == chosen[1], chosen[0] == chosen[2]) == (True, False)


def test_conversations_that_are_nearly_the_same_stay_together() -> None:
    """Whatever the seed, a conversation and its copy with another number are on one side."""
    texts = ["What does the repair of a lamp cost, and how long does it take you?", "Ask my colleague in the workshop."]
    index = RowIndex()
    for place in range(12):
        numbered = f"{texts[0]} My order is {place % 2}."
        index.add(
            Conversation((Message("user", numbered if place < 2 else f"{place} " * 30), Message("assistant", texts[1])))
        )

    for seed in range(20):
        held_out = {place for place, _ in hold_out(index, share=0.3, seed=seed).rows}
        assert (0 in held_out) == (1 in held_out)


def test_a_row_has_the_bots_system_turn_in_front_of_all_turns() -> None:
    """One conversation is one row, as serving will render it."""
    turns = (
        Message("user", "Hi"),
        Message("assistant", "Hello!"),
        Message("user", "Bye"),
        Message("assistant", "Bye!"),
    )
    (row,) = make_rows([Conversation(turns)], HeldOut(frozenset({(0, 0)})), system_prompt="Be kind.")

    assert (row.messages, row.is_held_out) == ((Message("system", "Be kind."), *turns), True)
