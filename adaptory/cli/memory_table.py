"""What each phase of a training was planned to take and what it took, as a table for people."""

from collections.abc import Iterator, Mapping

from adaptory.cli.output import print_table

_PHASES = ("load", "step", "evaluate", "save")
_MIB = 2**20
_UNKNOWN = "-"


def print_memory(planned: Mapping[str, int], measured: Mapping[str, int]) -> None:
    """Print the peaks of each phase, in bytes, side by side; nothing where neither is known."""
    if planned or measured:
        columns = ("phase", "planned MiB", "measured MiB", "measured / planned")
        print_table("Peak memory", columns, _describe_phases(planned, measured))


def _describe_phases(planned: Mapping[str, int], measured: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    for phase in _PHASES:
        # Asked for by `get`: looking into a map of a message with [] puts a 0 there.
        planned_bytes, measured_bytes = planned.get(phase, 0), measured.get(phase, 0)
        ratio = f"{measured_bytes / planned_bytes:.2f}" if planned_bytes and measured_bytes else _UNKNOWN
        yield phase, _format(planned_bytes), _format(measured_bytes), ratio


def _format(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.0f}" if size_bytes else _UNKNOWN
