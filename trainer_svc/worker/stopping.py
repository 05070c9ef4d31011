"""When training is over before its last step, and which step was best: read from losses measured on the way, and nothing else."""

from dataclasses import dataclass
from math import inf, isfinite

# A loss that falls by a smaller share than this stands still.
MIN_GAIN = 0.005


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured after a step, in nats: the loss on held-out rows, and how far that on general text is above the base's."""

    step: int
    loss: float
    general_rise: float = 0.0


class StoppingRule:
    """Follows the losses of one job.

    An adapter that lost more on general text than the gate allows would be rejected however well it knows its rows: it is kept only
    while there is none that lost less. Training goes on all the same, since some of that may come back as the rate falls. A gain is
    counted from the loss of the last gain, so that many small ones add up. A loss that is not finite is none.
    """

    def __init__(self, patience: int, max_general_rise: float | None = None) -> None:
        """Stop after so many measurements in a row without a gain; with 0, never. With None, general text may be lost altogether."""
        self._patience = patience
        self._max_general_rise = inf if max_general_rise is None else max_general_rise
        self._gained_loss = inf
        self._num_without_gain = 0
        self._lowest: Measured | None = None
        self.best: Measured | None = None

    @property
    def is_over(self) -> bool:
        """Whether training is to stop."""
        return 0 < self._patience <= self._num_without_gain

    @property
    def passed_over(self) -> Measured | None:
        """What had the lowest loss of all, where it lost too much on general text to be the best."""
        return None if self._lowest is self.best else self._lowest

    def judge(self, found: Measured) -> bool:
        """Take what was measured after a step; return whether it is the best so far."""
        if found.loss < self._gained_loss * (1 - MIN_GAIN):
            self._gained_loss, self._num_without_gain = found.loss, 0
        else:
            self._num_without_gain += 1
        if not isfinite(found.loss):
            return False
        if self._lowest is None or found.loss < self._lowest.loss:
            self._lowest = found
        is_best = self.best is None or self._rank(found) < self._rank(self.best)
        if is_best:
            self.best = found
        return is_best

    def _rank(self, found: Measured) -> tuple[bool, float]:
        return self._is_spoiled(found), found.loss

    def _is_spoiled(self, found: Measured) -> bool:
        # Asked this way round, a rise that is no number is too much.
        return not found.general_rise <= self._max_general_rise
