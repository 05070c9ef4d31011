"""Plans for people's eyes: the terms of the best one in a table, the others in another, and all as bars against the limit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptory.cli.output import print_table, say
from adaptory.cli.picture import open_figure, save_figure
from adaptory.cli.sizes import format_bytes

_MINUTE_S, _HOUR_S = 60, 3600
_GIB = 2**30
# One colour a term, the same in every picture: dark for what stays, light for what passes.
_COLOURS = {
    "frozen_weights": "#1b3a57",
    "adapter": "#2f6690",
    "gradients": "#3a8bb5",
    "optimizer": "#81b5d6",
    "checkpoints": "#b5541c",
    "layer_activations": "#e08e45",
    "backward_transients": "#f2c14e",
    "dequantised_weight": "#f7dd9b",
    "loss": "#8c9a5b",
    "context": "#9a9a9a",
}


def print_plans(answer: Mapping[str, Any], plot: Path | None) -> None:
    """Print the best plan term by term and the others in a line each."""
    best, limit_bytes = answer["plans"][0], answer["limit_bytes"]
    say(
        f"{answer['base']} ({answer['num_parameters'] / 1e9:.2f} billion parameters), {answer['method']} on {answer['device']}: "
        f"fits {format_bytes(limit_bytes)} ({limit_bytes:,} bytes) with {format_bytes(best['peak_bytes'])}"
    )
    if not answer["is_trainable"]:
        say(f"  {answer['model_type']} models are planned, but not trained by this release.")
    say(f"  {best['summary']}")
    say(f"  {_tell_time(answer, best)}; the smallest limit that would do is {answer['smallest_limit_bytes']:,} bytes")
    print_table("Memory of a step", ("term", "bytes", "size", "of the limit"), _list_terms(best, limit_bytes))
    phases = [(name, f"{size:,}", format_bytes(size)) for name, size in best["phases"].items()]
    print_table("Peak of each phase", ("phase", "bytes", "size"), phases)
    rows = [
        (str(place), format_bytes(plan["peak_bytes"]), format_seconds(plan["seconds"]), plan["summary"])
        for place, plan in enumerate(answer["plans"], start=1)
    ]
    print_table("Plans that fit, best first", ("", "peak", "time", "how"), rows)
    if simulation := answer["simulation"]:
        say(
            f"Simulated, the step takes {simulation['simulated_peak_bytes']:,} bytes; the terms are "
            f"{simulation['ratio_of_terms']:.3f} of what its tensors take."
        )
    if plot:
        say(f"{plot} shows them against the limit.")


def format_seconds(seconds: float) -> str:
    """Return a time in its largest unit: `0.41 s`, `12 min`, `3.5 h`."""
    if seconds >= _HOUR_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _MINUTE_S:.1f} min" if seconds >= _MINUTE_S else f"{seconds:.3g} s"


def draw_plans(answer: Mapping[str, Any], path: Path) -> None:
    """Draw each plan's terms as a stacked bar against the limit. Raises as `picture`."""
    plans, limit_gib = answer["plans"], answer["limit_bytes"] / _GIB
    figure = open_figure(9, 1.9 + 0.62 * len(plans))
    axes = figure.add_subplot()
    names = [f"{place}. {format_seconds(plan['seconds'])}" for place, plan in enumerate(plans, start=1)]
    begins = [0.0] * len(plans)
    for term, colour in _COLOURS.items():
        sizes = [plan["terms"][term] / _GIB for plan in plans]
        axes.barh(names, sizes, left=begins, color=colour, label=term.replace("_", " "), height=0.62)
        begins = [begin + size for begin, size in zip(begins, sizes, strict=True)]
    axes.axvline(limit_gib, color="#c1121f", linewidth=2, label=f"limit, {limit_gib:.2f} GiB")
    axes.invert_yaxis()
    axes.set_xlim(0, max(*begins, limit_gib) * 1.04)
    axes.set_xlabel("GiB above the worker's start-up baseline, in a training step")
    axes.set_title(f"{answer['base']}, {answer['method']} on {answer['device']}: plans that fit, best first")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    save_figure(figure, path)


def _list_terms(plan: Mapping[str, Any], limit_bytes: int) -> list[tuple[str, str, str, str]]:
    terms = {**plan["terms"], "peak": plan["peak_bytes"]}
    return [
        (name.replace("_", " "), f"{size:,}", format_bytes(size), f"{size / limit_bytes:.1%}")
        for name, size in terms.items()
    ]


def _tell_time(answer: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    rows, speed = answer["rows"], answer["speed"]
    source = "as measured" if speed["is_measured"] else "assumed, not measured"
    step_s = plan["seconds"] / rows["steps"]
    return (
        f"{format_seconds(plan['seconds'])} for {rows['trained']:,} rows of up to {rows['longest_tokens']:,} tokens, "
        f"{format_seconds(step_s)} a step ({speed['device']}, {source})"
    )
