"""What the memory measurement found: as JSON for programs, a table for people, and a picture of measured against predicted."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from rich.table import Table

from adaptory.cli.picture import open_figure, save_figure
from bench.machine import describe_machine
from bench.memory_run import Outcome
from trainer_svc.jobs.workspace import ExitCode
from trainer_svc.memory.techniques import Home, Techniques

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
_MIB = 2**20
# Digits whose multiples of powers of ten are labelled in the picture.
_LABELLED = (2, 3, 5, 7)
_GOAL_MEAN, _GOAL_LARGEST = 0.05, 0.10
_COLOURS = ("#1b3a57", "#2f6690", "#b5541c", "#e08e45", "#8c9a5b")


def build_document(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return the whole measurement."""
    errors = [abs(outcome.error) for outcome in outcomes]
    simulated = [abs(outcome.simulation_error) for outcome in outcomes]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "versions": {library: version(library) for library in _LIBRARIES},
        "mean_absolute_error": fmean(errors),
        "largest_absolute_error": max(errors),
        "simulation_mean_absolute_error": fmean(simulated),
        "simulation_largest_absolute_error": max(simulated),
        "all_below_limit": all(is_kept(outcome) for outcome in outcomes),
        "cases": [_write_case(outcome) for outcome in outcomes],
    }


def is_kept(outcome: Outcome) -> bool:
    """Return whether a job ended well, with a peak below its limit."""
    return outcome.ended == ExitCode.SUCCEEDED.name and outcome.measured_peak_bytes <= outcome.limit_bytes


def build_table(outcomes: Sequence[Outcome]) -> Table:
    """Return a line for each case, and below it how far off predictions were."""
    errors = [abs(outcome.error) for outcome in outcomes]
    kept = sum(is_kept(outcome) for outcome in outcomes)
    table = Table(title=f"Peak memory in MiB on {outcomes[-1].device}", title_justify="left", caption_justify="left")
    for column in ("base", "rows", "rank", "techniques"):
        table.add_column(column)
    for column in ("predicted", "simulated", "measured", "in use", "error", "seconds, predicted", "measured"):
        table.add_column(column, justify="right")
    for outcome in outcomes:
        case = outcome.case
        table.add_row(
            case.base,
            f"{case.batch_rows} of {case.row_tokens}",
            str(case.rank),
            tell_briefly(case.techniques),
            *(
                f"{size / _MIB:,.0f}"
                for size in (
                    outcome.predicted_peak_bytes,
                    outcome.simulated_peak_bytes,
                    outcome.measured_peak_bytes,
                    outcome.used_peak_bytes,
                )
            ),
            f"{outcome.error:+.1%}",
            f"{outcome.predicted_seconds:.1f}",
            f"{outcome.measured_seconds:.1f}",
        )
    table.caption = (
        f"{len(outcomes)} cases; mean absolute error {fmean(errors):.1%} (goal {_GOAL_MEAN:.0%}), largest {max(errors):.1%} "
        f"(goal {_GOAL_LARGEST:.0%}); {kept} of {len(outcomes)} ended well below their limit."
    )
    return table


def tell_briefly(techniques: Techniques) -> str:
    """Return techniques in one short line: `nf4 x2 full i8 [activations, base]`, what is away in brackets."""
    away = [
        name
        for name, home in (
            ("moments", techniques.moments_home),
            ("activations", techniques.activations_home),
            ("base", techniques.frozen_home),
        )
        if home is not Home.DEVICE
    ]
    parts = [
        str(techniques.base),
        f"x{techniques.micro_batch_rows}",
        str(techniques.recompute),
        f"moments {techniques.moments}",
        f"loss {techniques.loss_block_tokens}",
        f"[{', '.join(away)} away]" if away else "",
    ]
    return " ".join(part for part in parts if part)


def draw_scatter(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw each case's measured peak against what was predicted, with the goal as a band. Raises as `picture`."""
    figure = open_figure(7, 6)
    axes = figure.add_subplot()
    highest = 1.1 * max(max(o.predicted_peak_bytes, o.measured_peak_bytes) for o in outcomes) / _MIB
    lowest = 0.9 * min(min(o.predicted_peak_bytes, o.measured_peak_bytes) for o in outcomes) / _MIB
    span = [lowest, highest]
    axes.fill_between(
        span,
        [(1 - _GOAL_LARGEST) * place for place in span],
        [(1 + _GOAL_LARGEST) * place for place in span],
        color="#e6e6e6",
        label=f"within {_GOAL_LARGEST:.0%}",
    )
    axes.plot(span, span, color="#9a9a9a", linewidth=1)
    for base, colour in zip(dict.fromkeys(outcome.case.base for outcome in outcomes), _COLOURS, strict=False):
        own = [outcome for outcome in outcomes if outcome.case.base == base]
        predicted = [outcome.predicted_peak_bytes / _MIB for outcome in own]
        measured = [outcome.measured_peak_bytes / _MIB for outcome in own]
        axes.scatter(predicted, measured, color=colour, label=base, s=28)
    axes.set(
        xscale="log", yscale="log", xlim=span, ylim=span, xlabel="predicted peak, MiB", ylabel="measured peak, MiB"
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter("{x:,.0f}")
        # All nine would run into each other.
        axis.get_minor_locator().set_params(subs=_LABELLED)  # type: ignore[call-arg] # typed as any locator's
    axes.set_title(f"{len(outcomes)} jobs on {outcomes[-1].device}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(figure, path)


def _write_case(outcome: Outcome) -> dict[str, object]:
    written = asdict(outcome)
    case = written.pop("case")
    settings = {**case.pop("techniques"), **{name: value for name, value in case.items() if name != "base"}}
    return {
        **written,
        "base": outcome.case.base,
        "settings": settings,
        "error": outcome.error,
        "simulation_error": outcome.simulation_error,
    }
