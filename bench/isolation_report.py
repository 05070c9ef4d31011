"""What the isolation measurement found: as JSON for programs, and as a table of whose answers each tenant's bot gave."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.table import Table

from bench.isolation_verdict import Tally
from bench.machine import describe_machine

_COLUMNS = ("asked", "right", "wrong", "foreign", "foreign_alone", "differing")
_HEADS = ("asked", "right", "wrong", "another's", "of these said alone, too", "not as alone")


def build_document(tallies: Sequence[Tally], *, settings: Mapping[str, object]) -> dict[str, object]:
    """Return the whole measurement, with sums of all tenants and whether the goal, none of another's, is met."""
    total = sum_up(tallies)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "settings": dict(settings),
        "tenants": [asdict(one) for one in tallies],
        **{name: getattr(total, name) for name in _COLUMNS},
        "is_met": total.foreign == 0,
    }


def build_table(tallies: Sequence[Tally], *, num_slots: int) -> Table:
    """Return a line for each tenant and one for all, with the verdict below."""
    title = f"{len(tallies)} tenants on {num_slots} slots, asked at once, on {describe_machine()}"
    table = Table("tenant", title=title, title_justify="left", caption_justify="left", show_footer=True)
    total = sum_up(tallies)
    table.columns[0].footer = total.entity
    for head, name in zip(_HEADS, _COLUMNS, strict=True):
        table.add_column(head, footer=f"{getattr(total, name):,}", justify="right")
    for one in tallies:
        table.add_row(one.entity, *(f"{getattr(one, name):,}" for name in _COLUMNS))
    verdict = "met" if total.foreign == 0 else "missed"
    table.caption = f"Goal: none of another's: {verdict}. Those said alone, too, are what a bot learned wrongly."
    return table


def sum_up(tallies: Sequence[Tally]) -> Tally:
    """Return the sums over all tenants."""
    return Tally("all", **{name: sum(getattr(one, name) for one in tallies) for name in _COLUMNS})
