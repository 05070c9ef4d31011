"""Which prompts are asked of held-out rows, and the general text that is judged beside them."""

import pytest
from tokenizers import Tokenizer

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Message, RenderedRow, Renderer
from tests.fakes.base import write_base
from tests.tokenizers_of_families import make_tokenizer_with_beginning
from trainer_svc.worker.general import cut_general_rows
from trainer_svc.worker.judged import Asked, choose_asked, find_ends, list_asked
from trainer_svc.worker.rows import Rows

TALK = [
    Message("system", "Be Aurora."),
    Message("user", "Hello?"),
    Message("assistant", "Hi."),
    Message("user", "When?"),
    Message("assistant", "At noon."),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> PreparedBase:
    """A base whose tokens are bytes."""
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def renderer(base: PreparedBase) -> Renderer:
    """Its renderer."""
    return Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)


def rows_of(*rows: RenderedRow, first_line: int = 0) -> Rows:
    """Return rows of lines that follow each other."""
    lines = tuple(range(first_line, first_line + len(rows)))
    return Rows(rows, lines, measured=rows, num_too_long=0, num_unlearned=0)


def test_every_turn_of_the_bot_is_asked_with_what_stood_before(base: PreparedBase, renderer: Renderer) -> None:
    """The prompt is the one serving makes of the turns before, and the reference is the turn without its end."""
    rows = rows_of(renderer.render_row(TALK), first_line=7)
    first, second = list_asked(rows, find_ends(rows))

    assert (first.line, first.turn, second.line, second.turn) == (7, 0, 7, 1)
    assert (first.prompt, second.prompt) == (renderer.render_prompt(TALK[:2]), renderer.render_prompt(TALK[:4]))
    assert len(second.reference) == len("At noon.")
    assert find_ends(rows) == {base.end_of_turn_id}


def test_a_row_that_begins_with_what_is_learned_asks_nothing() -> None:
    """There is no prompt to answer."""
    rows = rows_of(RenderedRow((1, 2, 3), (True, True, False)), RenderedRow((1, 2), (False, True)))

    assert [asked.line for asked in list_asked(rows, frozenset({2}))] == [1]


def test_what_is_asked_is_spread_over_all_rows() -> None:
    """No more than the most, in order, from the first row to one near the last."""
    asked = [Asked(line, 0, (1,), (2,)) for line in range(1000)]

    assert [one.line for one in choose_asked(asked, 4)] == [0, 250, 500, 750]
    assert choose_asked(asked[:3], 4) == asked[:3]


@pytest.mark.parametrize(("longest", "length"), [(5, 8), (60, 60), (5000, 256)])
def test_general_rows_are_as_long_as_the_longest_row_held_out(base: PreparedBase, longest: int, length: int) -> None:
    """So they take no more memory; all but the first token is learned, and they are a dozen at most."""
    held_out = rows_of(RenderedRow((1,) * longest, (True,) * longest))
    rows = cut_general_rows(Tokenizer.from_file(str(base.tokenizer_file)), held_out)

    assert {len(row.ids) for row in rows} == {length}
    assert {row.learned for row in rows} == {(False, *(True,) * (length - 1))}
    assert len(rows) == 12


def test_general_rows_begin_as_the_tokenizer_begins_a_text() -> None:
    """What it puts there is given, not learned, and a row is no longer for it."""
    tokenizer = make_tokenizer_with_beginning()
    rows = cut_general_rows(tokenizer, rows_of(RenderedRow((1,) * 60, (True,) * 60)))

    assert {row.ids[0] for row in rows} == {tokenizer.token_to_id("<bos>")}
    assert {row.learned for row in rows} == {(False, *(True,) * 59)}
