"""The serving measurement as a picture: how long first tokens took in each scenario on both sides, and the gaps of swaps."""

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from adaptory.cli.picture import open_figure, save_figure
from bench.machine import describe_machine
from bench.serve_run import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS, _BARE = "#1b3a57", "#b5541c"
_NUM_COLUMNS = 4
_PANEL_INCHES = 3.4
_TITLE_CHARS = 36
# Digits whose multiples of powers of ten are labelled; all nine would run into each other.
_LABELLED = (2, 5)
# What a panel shows, by the names of the samples: the first is drawn solid, the second, what it is compared with, dotted.
_FIRST_TOKENS = ("ttft", "ttft, no flood")
_GAPS = ("gap, swaps", "gap, steady")


def draw_latencies(measured: Sequence[Measured], path: Path) -> None:
    """Draw a panel of the shares of first tokens by time for each scenario, and one of gaps for swaps. Raises as `picture`."""
    panels = [(one, _FIRST_TOKENS) for one in measured]
    panels += [(one, _GAPS) for one in measured if one.scenario.kind == "swaps"]
    num_columns = min(_NUM_COLUMNS, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    figure = open_figure(_PANEL_INCHES * num_columns, _PANEL_INCHES * num_rows + 0.4)
    grid = figure.subplots(num_rows, num_columns, squeeze=False).flat
    for axes, (one, names) in zip(grid, panels, strict=False):
        _draw_panel(axes, one, names)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(f"serve_svc over gRPC, and bare AsyncLLM, on {describe_machine()}", fontsize=10)
    save_figure(figure, path)


def _draw_panel(axes: "Axes", one: Measured, names: Sequence[str]) -> None:
    for side, colour, samples in (("ours", _OURS, one.ours.samples), ("bare", _BARE, one.bare.samples)):
        for name, line in zip(names, ("-", ":"), strict=True):
            if values := np.sort(samples.get(name, [])).tolist():
                label = side if name == names[0] else f"{side}, {name.partition(', ')[2]}"
                shares = np.arange(1, len(values) + 1) / len(values)
                axes.step([values[0], *values], [0.0, *shares], line, where="post", color=colour, label=label)
    is_of_gaps = names is _GAPS
    axes.set(
        xscale="log",
        ylim=(0, 1),
        xlabel="largest gap of each second, ms" if is_of_gaps else "first token, ms",
        ylabel="share of seconds" if is_of_gaps else "share of requests",
    )
    axes.set_title(fill(one.scenario.title, _TITLE_CHARS), fontsize=9)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("{x:,.0f}")
    axes.xaxis.get_minor_locator().set_params(subs=_LABELLED)  # type: ignore[call-arg] # typed as any locator's
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(facecolor="white", edgecolor="none", framealpha=0.8, fontsize=8)
