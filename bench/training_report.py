"""What the training measurement found: the ratios between both sides, as JSON for programs and as a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import version
from typing import Self

from rich.table import Table

from adaptory.cli.sizes import format_bytes
from bench.machine import describe_machine
from bench.training_side import Side

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "trl")
_MAX_FOREIGN_CPU_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides on the same rows, each the pool of its runs; `round_ratios` are the speed ratios of single rounds."""

    ours: Side
    trl: Side
    round_ratios: list[float]

    @classmethod
    def from_rounds(cls, rounds: Sequence[tuple[Side, Side]]) -> Self:
        """Pool rounds of (ours, TRL)."""
        ours, trl = (reduce(Side.pool, sides) for sides in zip(*rounds, strict=True))
        return cls(ours, trl, [mine.tokens_per_second / its.tokens_per_second for mine, its in rounds])

    @property
    def ratio_speed(self) -> float:
        """How many times as fast ours is, in rows as well as in tokens: both sides count the same ones."""
        return self.ours.tokens_per_second / self.trl.tokens_per_second

    @property
    def ratio_peak_bytes(self) -> float:
        """Our peak as a share of TRL's."""
        return self.ours.peak_bytes / self.trl.peak_bytes

    @property
    def loss_difference(self) -> float:
        """How far the mean losses of all steps are apart, as a share of TRL's."""
        return abs(self.ours.mean_loss / self.trl.mean_loss - 1)

    def to_dict(self) -> dict[str, object]:
        """Return both sides and what is compared besides speed."""
        return {**asdict(self), "ratio_peak_bytes": self.ratio_peak_bytes, "loss_difference": self.loss_difference}


def build_document(unshared: Comparison, faq: Comparison, *, settings: Mapping[str, object]) -> dict[str, object]:
    """Return the whole measurement: that of rows that share nothing at the top, that of FAQ rows below `faq`."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "versions": {library: version(library) for library in _LIBRARIES},
        "settings": dict(settings),
        "ratio_tokens_per_second": unshared.ratio_speed,
        "ratio_rows_per_second": faq.ratio_speed,
        **unshared.to_dict(),
        "faq": faq.to_dict(),
    }


def build_table(unshared: Comparison, faq: Comparison) -> Table:
    """Return the table of both kinds of rows; below it, whether others disturbed the measurement."""
    title = f"Training on {describe_machine()}"
    table = Table("", "ours", "TRL", "ours to TRL's", title=title, title_justify="left", caption_justify="left")
    for name, compared in {"rows that share nothing": unshared, "rows of an FAQ bot": faq}.items():
        table.add_section()
        table.add_row(name, compared.ours.base_precision, compared.trl.base_precision, style="bold")
        for cells in _list_measures(compared):
            table.add_row(*cells)
    foreign_share = max(side.foreign_cpu_share for pair in (unshared, faq) for side in (pair.ours, pair.trl))
    if foreign_share > _MAX_FOREIGN_CPU_SHARE:
        table.caption = (
            f"Others took up to {foreign_share:.0%} of the cores meanwhile: measure again on an idle machine."
        )
    return table


def _list_measures(compared: Comparison) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is measured, ours, TRL's, and how they compare."""
    ours, trl = compared.ours, compared.trl
    low, high = min(compared.round_ratios), max(compared.round_ratios)
    speed = f"{compared.ratio_speed:.2f} times ({low:.2f} to {high:.2f})"
    yield "rows a second", f"{ours.rows_per_second:.1f}", f"{trl.rows_per_second:.1f}", speed
    yield "tokens a second", f"{ours.tokens_per_second:,.0f}", f"{trl.tokens_per_second:,.0f}", ""
    yield "peak memory", format_bytes(ours.peak_bytes), format_bytes(trl.peak_bytes), f"{compared.ratio_peak_bytes:.0%}"
    yield "mean loss", f"{ours.mean_loss:.4f}", f"{trl.mean_loss:.4f}", f"{compared.loss_difference:.2%} apart"
