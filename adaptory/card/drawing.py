"""The card's pictures as geometry: a curve of losses and bars of memory, in the coordinates of the page's SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 720, 240, 48, 28, 12, 12
_NUM_TICKS = 5
# Of a longer job every so many steps are averaged: the eye sees no more, and the page stays small.
_MAX_POINTS = 300


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis, from the left or from the top."""

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, `x,y x,y …` as SVG's polyline takes them, in a drawing of `width` by `height`.

    `marks` are points of a second line.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    points: str
    steps: tuple[Tick, ...]
    values: tuple[Tick, ...]
    levels: tuple[tuple[str, float], ...]
    marks: tuple[tuple[float, float], ...]


def draw_curve(
    steps: Sequence[int], values: Sequence[float], levels: Mapping[str, float], measured: Mapping[int, float]
) -> Curve | None:
    """Return the curve of values by step, with `levels` as lines across and a second line of what was `measured` after some steps.

    None where there are fewer than two finite values.
    """
    points = _thin([(step, value) for step, value in zip(steps, values, strict=True) if isfinite(value)])
    if len(points) < 2:  # noqa: PLR2004 - a line needs two
        return None
    shown = {name: level for name, level in levels.items() if isfinite(level)}
    marked = {step: value for step, value in measured.items() if isfinite(value)}
    highest = max(*(value for _, value in points), *shown.values(), *marked.values())
    ticks = _choose_ticks(highest)
    first, last, top_value = min(steps), max(steps), max(highest, ticks[-1])

    def x(step: float) -> float:
        return round(_LEFT + (step - first) / max(1, last - first) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / top_value * (_HEIGHT - _BOTTOM - _TOP), 1)

    return Curve(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        top=_TOP,
        bottom=_HEIGHT - _BOTTOM,
        points=" ".join(f"{x(step)},{y(value)}" for step, value in points),
        steps=tuple(Tick(x(step), f"{round(step):,}") for step in _spread(first, last)),
        values=tuple(Tick(y(value), f"{value:g}") for value in ticks),
        levels=tuple((name, y(level)) for name, level in shown.items()),
        marks=tuple((x(step), y(value)) for step, value in sorted(marked.items())),
    )


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // _MAX_POINTS)
    groups = [points[begin : begin + size] for begin in range(0, len(points), size or 1)]
    return [tuple(sum(numbers) / len(group) for numbers in zip(*group, strict=True)) for group in groups]


def _choose_ticks(highest: float) -> list[float]:
    """Return round values from 0 to about the highest: steps of 1, 2 or 5 times a power of ten."""
    rough = max(highest, 1e-9) / (_NUM_TICKS - 1)
    power = 10 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(step * place, 10) for place in range(_NUM_TICKS) if step * (place - 1) < highest]


def _spread(first: float, last: float) -> list[float]:
    return sorted({round(first + (last - first) * place / (_NUM_TICKS - 1)) for place in range(_NUM_TICKS)})


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase's planned and measured peak, as shares of the widest thing drawn; bytes beside them."""

    phase: str
    planned_bytes: int
    measured_bytes: int
    planned_share: float
    measured_share: float


def draw_bars(planned: Mapping[str, int], measured: Mapping[str, int], limit_bytes: int) -> tuple[list[Bar], float]:
    """Return a bar for each phase, in the order of a job, and the limit's share of the width."""
    order = {phase: place for place, phase in enumerate(("load", "step", "evaluate", "save"))}
    phases = sorted({*planned, *measured}, key=lambda phase: (order.get(phase, len(order)), phase))
    widest = max([limit_bytes, *planned.values(), *measured.values(), 1])
    bars = [
        Bar(
            phase=phase,
            planned_bytes=planned.get(phase, 0),
            measured_bytes=measured.get(phase, 0),
            planned_share=planned.get(phase, 0) / widest,
            measured_share=measured.get(phase, 0) / widest,
        )
        for phase in phases
    ]
    return bars, limit_bytes / widest
