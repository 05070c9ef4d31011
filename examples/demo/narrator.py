"""Says what the demo is doing all the while: on a terminal with bars, in a log with plain lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TimeElapsedColumn
from rich.text import Text


class Narrator:
    """Tells steps, and how far the longer ones are."""

    def __init__(self, console: Console) -> None:
        """Tell on `console`; time counts from now."""
        self.console = console
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the narration began."""
        return time.monotonic() - self._begun

    def tell(self, sentence: str) -> None:
        """Begin a step."""
        self.console.print(Text.assemble((f"[{self.seconds:5.0f} s] ", "dim"), (sentence, "bold")), soft_wrap=True)

    def add(self, sentence: str) -> None:
        """Say more about the step."""
        self.console.print(Text(f"          {sentence}"), soft_wrap=True)

    @contextmanager
    def wait(self, sentence: str) -> Iterator[None]:
        """Tell a step that shows nothing by itself; on a terminal something moves until it ends."""
        self.tell(sentence)
        with self._bars(SpinnerColumn(), TimeElapsedColumn()) as bars:
            bars.add_task("", total=None)
            yield

    @contextmanager
    def count(self, sentence: str, total: int) -> Iterator[Callable[[], None]]:
        """Tell a step of `total` parts; call what the block gets after each."""
        self.tell(sentence)
        num_done = 0
        with self._bars(SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bars:
            bar = bars.add_task("", total=total)

            def advance() -> None:
                nonlocal num_done
                num_done += 1
                bars.advance(bar)
                if not self.console.is_terminal and num_done % max(1, total // 4) == 0:
                    self.add(f"{num_done} of {total} answered")

            yield advance

    def _bars(self, *columns: ProgressColumn) -> Progress:
        # Drawn on a terminal only: in a log every frame would be a line.
        return Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
