"""How sure a bot was of an answer, by what the model itself computed: invented answers are less likely to it than those it knows."""

from collections.abc import Iterable
from math import exp
from statistics import fmean

from adaptory.serve.v1.generation_pb2 import GeneratedToken


def measure_certainty(tokens: Iterable[GeneratedToken]) -> float:
    """Return the geometric mean of the probabilities of an answer's tokens, 0 to 1.

    All tokens of one answer that was asked for with `num_logprobs`, from one piece or many. Raises ValueError where there are none.
    What is certain enough differs from bot to bot: docs/data.md says how to find it.
    """
    logprobs = [token.logprob for token in tokens]
    if not logprobs:
        message = "the answer has no tokens with a log probability; ask for it with GenerationOptions(num_logprobs=0)"
        raise ValueError(message)
    return exp(fmean(logprobs))
