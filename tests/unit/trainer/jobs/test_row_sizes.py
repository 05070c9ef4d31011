"""How long rows are, as the memory planner needs to know."""

from pathlib import Path

from adaptory.core.prompting import Message
from tests.fakes.base import write_base
from trainer_svc.bots.faq import Row
from trainer_svc.jobs.row_sizes import measure_rows


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
