"""Pictures: the one place that draws, and what is told when that is not possible."""

from pathlib import Path
from typing import TYPE_CHECKING

from adaptory.core.errors import FailedPrecondition, InvalidRequest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 150


def open_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of so many inches. Raises FailedPrecondition where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - seconds, and only drawing needs it
    except ImportError as error:
        message = f"Drawing needs matplotlib ({error}); run: pip install 'adaptory[plot]'"
        raise FailedPrecondition(message, reason="PLOT_LIBRARY_MISSING") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG. Raises InvalidRequest when the file cannot be written."""
    try:
        figure.savefig(path, dpi=_DOTS_PER_INCH, format="png")
    except OSError as error:
        raise InvalidRequest.of_field("--plot", f"{path} cannot be written: {error.strerror}") from error
