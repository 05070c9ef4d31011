"""When training is over before its last step, and whether a loss is the lowest so far: read from those on held-out rows alone."""

from math import inf

# A loss that falls by a smaller share than this stands still.
MIN_GAIN = 0.005


class StoppingRule:
    """Follows the losses of one job, in nats.

    A gain is counted from the loss of the last gain, so that many small ones add up. A loss that is not finite is none.
    """

    def __init__(self, patience: int) -> None:
        """Stop after so many measurements in a row without a gain; with 0, never."""
        self._patience = patience
        self._gained_loss = inf
        self._num_without_gain = 0
        self._lowest_loss = inf

    @property
    def is_over(self) -> bool:
        """Whether training is to stop."""
        return 0 < self._patience <= self._num_without_gain

    def judge(self, loss: float) -> bool:
        """Take the loss measured next; return whether it is the lowest so far."""
        if loss < self._gained_loss * (1 - MIN_GAIN):
            self._gained_loss, self._num_without_gain = loss, 0
        else:
            self._num_without_gain += 1
        is_lowest = loss < self._lowest_loss
        if is_lowest:
            self._lowest_loss = loss
        return is_lowest
