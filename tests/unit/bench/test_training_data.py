"""The rows of the training measurement."""

from bench.training_data import make_faq_rows, make_unshared_rows
from examples.demo.companies import COMPANIES
from trainer_svc.bots.faq import RECIPE


def test_unshared_rows_never_begin_alike() -> None:
    """The first character that is not the template's differs in every row, so no tokenizer finds a shared beginning."""
    firsts = [row.messages[0].content[0] for row in make_unshared_rows()]

    assert len(set(firsts)) == len(firsts)


def test_faq_rows_all_begin_with_the_bots_system_turn() -> None:
    """What FAQ rows share is what the demo's bot is told before every question."""
    openings = {row.messages[0] for row in make_faq_rows(COMPANIES[0])}

    assert [opening.content for opening in openings] == [COMPANIES[0].system_prompt]


def test_every_batch_of_both_sets_is_full() -> None:
    """A last batch that is smaller would have another size on one of the steps that are timed."""
    for rows in (make_unshared_rows(), make_faq_rows(COMPANIES[0])):
        held_out = [row.is_held_out for row in rows]
        assert held_out.count(False) % RECIPE.batch_rows == 0
        assert any(held_out)


def test_the_rows_are_the_same_every_time() -> None:
    """Two measurements train the same rows, so that they may be compared."""
    assert list(make_unshared_rows()) == list(make_unshared_rows())
