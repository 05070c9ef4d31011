"""How fast a queue moves, measured while it stands: cost per second, and how much of what they may say answers really say."""

from collections.abc import Callable

from serve_svc.queue.fair_share import OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST

# What was measured this long ago weighs half, in seconds with a queue: long against one answer, short against a change of load.
_HALF_LIFE_S = 30.0
# Less is chance: one long prompt that starts in it would look like a fast engine.
_ENOUGH_S = 1.0
# Weight of the newest answer in the moving mean of how much of its limit an answer uses.
_SMOOTHING = 0.1


class Pace:
    """Told of every charge and of every change of the queue; knows nothing before there was a queue for a while."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without a queue; `clock` is monotonic and in seconds."""
        self._clock = clock
        self._last_s = 0.0
        self._has_queue = False
        self._cost = 0.0
        self._seconds = 0.0
        self._output_share = (
            0.0  # prompts alone are expected until the first answer has ended: too little refuses nobody
        )

    def observe(self, *, has_queue: bool, cost: float = 0.0) -> None:
        """Count `cost` served since the last call, if somebody waited; `has_queue` says whether somebody does from now on."""
        now_s = self._clock()
        if self._has_queue:
            elapsed_s = now_s - self._last_s
            kept = 0.5 ** (elapsed_s / _HALF_LIFE_S)
            self._seconds = self._seconds * kept + elapsed_s
            self._cost = self._cost * kept + cost
        self._has_queue = has_queue
        self._last_s = now_s

    def answered(self, num_output_tokens: int, max_output_tokens: int) -> None:
        """Learn from an answer how long answers are."""
        self._output_share += _SMOOTHING * (num_output_tokens / max_output_tokens - self._output_share)

    def expect_cost(self, num_prompt_tokens: int, max_output_tokens: int) -> float:
        """Return what a request will probably cost."""
        return num_prompt_tokens * PROMPT_TOKEN_COST + max_output_tokens * self._output_share * OUTPUT_TOKEN_COST

    def seconds_for(self, cost: float) -> float | None:
        """Return how long the engine takes for `cost`, or None where too little was measured."""
        if self._seconds < _ENOUGH_S or self._cost <= 0:
            return None
        return cost * self._seconds / self._cost
