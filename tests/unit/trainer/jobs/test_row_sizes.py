"""How long rows are, as the memory planner needs to know."""

from dataclasses import replace
from pathlib import Path

import pytest

from adaptory.core.errors import InvalidRequest
from adaptory.core.prompting import Message
from tests.fakes.base import write_base
from trainer_svc.bots.row import Row
from trainer_svc.jobs.row_sizes import measure_rows
from trainer_svc.memory.layout import SIZE_MULTIPLE
from trainer_svc.memory.workload import measure_lengths


def row(*texts: str) -> Row:
    """Return a row of a system turn, a question and an answer."""
    roles = ("system", "user", "assistant")
    return Row(tuple(Message(role, text) for role, text in zip(roles, texts, strict=True)), is_held_out=False)


def test_rows_share_the_tokens_they_all_begin_with(tmp_path: Path) -> None:
    """One token a byte: system turn and the opening of the user's are shared, and the questions' first letter that is equal."""
    base = write_base(tmp_path)
    sizes = measure_rows(
        base, [row("Be brief.", "abc", "x"), row("Be brief.", "abd", "yy"), row("Be brief.", "aq", "z")]
    )

    shared = 1 + len("system\nBe brief.") + 1 + len("\n") + 1 + len("user\na")
    assert sizes.shared_tokens == shared
    assert [length - sizes.tokens[0] for length in sizes.tokens] == [0, 1, -1]


def test_a_row_the_template_refuses_is_told(tmp_path: Path) -> None:
    """Where the base's template wants the user first, a conversation that the agent opened is refused before anything runs."""
    wants_user = "{{ refuse() if messages[0].role != 'user' }}{{ messages[0].content }}"
    base = replace(write_base(tmp_path), chat_template=wants_user)

    with pytest.raises(InvalidRequest) as refused:
        measure_rows(base, [Row((Message("assistant", "secret"), Message("user", "Hi")), is_held_out=False)])

    assert (refused.value.reason, "secret" in str(refused.value)) == ("TEMPLATE_REFUSES", False)


def test_rows_that_are_all_alike_share_no_more_than_a_step_reads(tmp_path: Path) -> None:
    """What is behind the last learned token is read by nothing, so nothing of it can be shared."""
    sizes = measure_rows(write_base(tmp_path), [row("Be brief.", "abc", "x")] * 50)

    pack = measure_lengths([length - sizes.tail_tokens for length in sizes.trained], sizes.shared_tokens)
    assert sizes.shared_tokens == sizes.tokens[0] - sizes.tail_tokens
    assert 0 <= pack.nodes - sizes.shared_tokens < SIZE_MULTIPLE
