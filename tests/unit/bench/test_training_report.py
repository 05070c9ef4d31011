"""What the training measurement says it found."""

from rich.console import Console

from bench.training_report import Comparison, build_document, build_table
from bench.training_side import Side


def make_side(*, tokens_per_second: float, peak_bytes: int, losses: list[float], foreign: float = 0.0) -> Side:
    """Return a side of ten tokens a row."""
    return Side(
        program="p",
        base_precision="nf4",
        rows_per_second=tokens_per_second / 10,
        tokens_per_second=tokens_per_second,
        peak_bytes=peak_bytes,
        process_peak_bytes=peak_bytes,
        losses=losses,
        step_seconds=[],
        foreign_cpu_share=foreign,
    )


OURS = make_side(tokens_per_second=600.0, peak_bytes=300, losses=[2.0, 1.0])
TRL = make_side(tokens_per_second=200.0, peak_bytes=400, losses=[2.0, 2.0])
SLOWER = make_side(tokens_per_second=100.0, peak_bytes=400, losses=[2.0, 2.0])


def test_ratios_tell_ours_against_trls() -> None:
    """Above one is faster, below one is smaller, and losses apart in either direction are a positive share."""
    compared = Comparison.from_rounds([(OURS, TRL)])

    assert (compared.ratio_speed, compared.ratio_peak_bytes, compared.loss_difference) == (3.0, 0.75, 0.25)


def test_rounds_are_pooled_over_the_time_of_all() -> None:
    """A slow round weighs by its time, and every round's own ratio stays visible."""
    compared = Comparison.from_rounds([(OURS, TRL), (OURS, SLOWER)])

    assert round(compared.trl.tokens_per_second, 2) == 133.33
    assert compared.round_ratios == [3.0, 6.0]


def test_the_document_keeps_both_kinds_of_rows_apart() -> None:
    """The top holds the rows that share nothing, `faq` those of the bot, each ratio from its own rows."""
    document = build_document(
        Comparison.from_rounds([(OURS, TRL)]), Comparison.from_rounds([(OURS, SLOWER)]), settings={"steps": 2}
    )

    assert (document["ratio_tokens_per_second"], document["ratio_rows_per_second"]) == (3.0, 6.0)
    assert {"ours", "trl", "faq", "date", "machine", "versions", "settings"} <= document.keys()


def test_a_narrow_terminal_shows_every_number() -> None:
    """Ratios and losses of both kinds of rows are whole on 80 columns."""
    console = Console(width=80, record=True)
    console.print(build_table(Comparison.from_rounds([(OURS, TRL)]), Comparison.from_rounds([(OURS, SLOWER)])))
    text = console.export_text()

    assert all(number in text for number in ("3.00 times (3.00 to 3.00)", "6.00 times", "1.5000", "25.00% apart"))
    assert "…" not in text


def test_a_disturbed_measurement_says_so() -> None:
    """Speeds measured beside other work come with the share of the cores that work took."""
    disturbed = make_side(tokens_per_second=200.0, peak_bytes=400, losses=[2.0], foreign=0.31)
    calm, loud = (
        build_table(Comparison.from_rounds([(OURS, trl)]), Comparison.from_rounds([(OURS, TRL)]))
        for trl in (TRL, disturbed)
    )

    assert calm.caption is None
    assert "31%" in str(loud.caption)
