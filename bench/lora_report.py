"""What `bench.lora` found, as JSON and as a table."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from bench.side.rounds import Rounds


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two answers part, counted from 0, and how much likelier bare vLLM's token was there than its next best, in nats."""

    place: int
    gap: float


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario.

    `partings` has an entry for each stream, None where both answers were the same. `alone_partings` are those of bare vLLM from
    itself, all streams together and each alone; none were sought where they are empty.
    """

    name: str
    base: Rounds
    bare: Rounds
    ours: Rounds
    partings: list[Parting | None]
    alone_partings: list[Parting | None]

    @property
    def ratio_to_base(self) -> float:
        """Our throughput by the base's."""
        return self.ours.throughput_ratio(self.base)

    @property
    def ratio_to_bare(self) -> float:
        """Our throughput by bare vLLM's."""
        return self.ours.throughput_ratio(self.bare)

    @property
    def ttft_ratio_to_base(self) -> float:
        """Our median first token by the base's."""
        return self.ours.ttft_ratio(self.base)

    @property
    def num_same(self) -> int:
        """Streams whose answers were the same, token for token."""
        return sum(parting is None for parting in self.partings)

    @property
    def widest_gap(self) -> float:
        """The most that bare vLLM's token was likelier than its next best where answers part, in nats; 0 where none do."""
        return _widest(self.partings)

    @property
    def widest_gap_alone(self) -> float:
        """The same for bare vLLM and itself."""
        return _widest(self.alone_partings)

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "name": self.name,
            "base": asdict(self.base.median),
            "bare": asdict(self.bare.median),
            "ours": asdict(self.ours.median),
            "rounds": len(self.ours.taken),
            "ratio_to_base": self.ratio_to_base,
            "ratio_to_bare": self.ratio_to_bare,
            "ttft_ratio_to_base": self.ttft_ratio_to_base,
            "same_answers": self.num_same,
            "widest_gap": self.widest_gap,
            "partings": [asdict(parting) for parting in self.partings if parting],
            "bare_alone": self._bare_alone(),
        }

    def _bare_alone(self) -> dict[str, float] | None:
        if not self.alone_partings:
            return None
        return {"same_answers": self.alone_partings.count(None), "widest_gap": self.widest_gap_alone}

    def sentence(self) -> str:
        """Tell it in a line."""
        return (
            f"{self.name}: {self.ratio_to_base:.2f} of the base's throughput, {self.ratio_to_bare:.2f} times bare vLLM's, "
            f"first token {self.ttft_ratio_to_base:.2f} times the base's, {self.num_same} of {len(self.partings)} answers the same"
            f"{f', the others part at gaps of at most {self.widest_gap:.3f}' if self.widest_gap else ''}"
            f"{f'; bare vLLM with itself, alone: {tell_same(self.alone_partings)}' if self.alone_partings else ''}"
        )


def _widest(partings: list[Parting | None]) -> float:
    return max((parting.gap for parting in partings if parting), default=0.0)


def print_table(rows: list[Row], title: str) -> None:
    """Print a line for each scenario; what base and bare vLLM reached themselves is in the JSON."""
    heads = ("tokens/s", "of base", "of bare", "first token", "of base", "same as bare, gap", "bare as itself, gap")
    table = Table(Column("scenario", min_width=12), *heads, title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        ours = row.ours.median
        table.add_row(
            row.name,
            f"{ours.output_tokens_per_second:,.0f}",
            f"{row.ratio_to_base:.2f}",
            f"{row.ratio_to_bare:.2f}",
            f"{ours.ttft_p50_ms:,.0f} ms",
            f"{row.ttft_ratio_to_base:.2f}",
            tell_same(row.partings),
            tell_same(row.alone_partings) if row.alone_partings else "",
        )
    Console().print(table)


def tell_same(partings: list[Parting | None]) -> str:
    """Tell how many answers were the same, and the widest gap where others part."""
    return f"{partings.count(None)} of {len(partings)}, {_widest(partings):.3f}"
