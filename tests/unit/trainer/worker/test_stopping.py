"""When training stops, and which losses are the lowest so far."""

from math import inf, isfinite, nan

from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.worker.stopping import MIN_GAIN, StoppingRule

# Coarse ones, so that equal losses and falls of just under a gain come up; some that are no numbers.
LOSSES = st.lists(st.integers(0, 400).map(lambda number: number / 100) | st.sampled_from([nan, inf]), max_size=30)
PATIENCE = st.integers(0, 5)


def _finite(losses: list[float]) -> list[float]:
    return [loss for loss in losses if isfinite(loss)]


def _judge(rule: StoppingRule, losses: list[float]) -> list[float]:
    """Judge losses until the rule says stop; return those it saw."""
    for step, loss in enumerate(losses, start=1):
        rule.judge(loss)
        if rule.is_over:
            return losses[:step]
    return losses


@given(LOSSES, PATIENCE)
def test_a_loss_is_the_lowest_so_far_where_none_before_was_as_low(losses: list[float], patience: int) -> None:
    """The first of equal ones; none that is not finite."""
    rule = StoppingRule(patience)
    lowest = [step for step, loss in enumerate(losses) if rule.judge(loss)]

    assert lowest == [step for step, loss in enumerate(losses) if loss < min(_finite(losses[:step]), default=inf)]


@given(LOSSES, PATIENCE)
def test_training_stops_just_when_the_last_losses_brought_no_gain(losses: list[float], patience: int) -> None:
    """At the stop none of the last ones is a gain below the lowest before; where it goes on, one of them is the lowest of all."""
    rule = StoppingRule(patience)
    seen = [loss if isfinite(loss) else inf for loss in _judge(rule, losses)]
    before, last = seen[: len(seen) - patience], seen[len(seen) - patience :]

    if rule.is_over:
        assert patience == len(last) > 0
        assert min(last) >= min(before, default=inf) * (1 - MIN_GAIN)
    elif 0 < patience <= len(seen):
        assert min(last) < min(before, default=inf)


def test_many_small_gains_add_up_to_one() -> None:
    """A loss that falls by a fifth of a gain each time is not taken for one that stands still."""
    losses = [2 * (1 - MIN_GAIN / 5) ** step for step in range(60)]

    assert _judge(StoppingRule(6), losses) == losses


def test_without_patience_for_it_training_never_stops() -> None:
    """Patience of 0 goes on however the loss rises."""
    rule = StoppingRule(0)

    assert len(_judge(rule, [3.0, 1.0, *(float(step) for step in range(2, 40))])) == 40
