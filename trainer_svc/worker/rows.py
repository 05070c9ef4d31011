"""Reads the rows of a job, renders them, and says in which order they are trained.

Nothing is clipped: a row that is too long or has nothing to learn is counted, and too many of them refuse the data.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptory.core.errors import InvalidRequest
from adaptory.core.prompting import RenderedRow
from trainer_svc.bots.row_rendering import RowRenderer, read_row
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.batches import order_places

MAX_LEFT_OUT_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that can be trained or judged on, the line each comes from, and how many were left out for which reason.

    `measured` are those whose loss counts; the others are asked alone.
    """

    rows: tuple[RenderedRow, ...]
    lines: tuple[int, ...]
    measured: tuple[RenderedRow, ...]
    num_too_long: int
    num_unlearned: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row.ids) for row in self.rows)


def load_rows(file: Path, renderer: RowRenderer, max_row_tokens: int) -> Rows:
    """Render a file of rows, one a line.

    Raises:
        InvalidRequest: No row can be used, or more than 2 % are too long or have nothing to learn.
    """
    with file.open(encoding="utf-8") as lines:
        written = [read_row(line) for line in lines]
    rendered = [renderer.render(row) for row in written]
    fitting = [(row, line) for line, row in enumerate(rendered) if len(row.ids) <= max_row_tokens]
    kept = [(row, line) for row, line in fitting if any(row.learned[1:])]
    rows = Rows(
        rows=tuple(row for row, _ in kept),
        lines=tuple(line for _, line in kept),
        measured=tuple(row for row, line in kept if written[line].is_measured),
        num_too_long=len(rendered) - len(fitting),
        num_unlearned=len(fitting) - len(kept),
    )
    if not kept or len(rendered) - len(kept) > MAX_LEFT_OUT_SHARE * len(rendered):
        raise InvalidRequest(
            f"{rows.num_too_long} of {len(rendered)} rows have more than {max_row_tokens} tokens and {rows.num_unlearned} have"
            f" nothing to learn; at most {MAX_LEFT_OUT_SHARE:.0%} may: shorten them, or raise max_row_tokens",
            reason="ROWS_UNUSABLE",
            metadata={
                "num_rows": len(rendered),
                "num_too_long": rows.num_too_long,
                "num_unlearned": rows.num_unlearned,
                "max_row_tokens": max_row_tokens,
            },
        )
    return rows


def order_batches(rows: Sequence[RenderedRow], settings: TrainingSettings) -> Iterator[list[RenderedRow]]:
    """Yield the rows of each optimizer step, up to the last that is asked for."""
    for places in order_places(len(rows), settings):
        yield [rows[place] for place in places]
