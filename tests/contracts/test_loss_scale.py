"""The scale of the loss: gradients come back as they are, whatever scale they need, or the step fails and says why."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.errors import FailedPrecondition
from trainer_svc.worker.loss_scale import GROWTH_STEPS, INITIAL_SCALE, DynamicScaling, NoScaling

TRUE = torch.tensor([0.75, -(2.0**-20), 0.0])


class Step:
    """A step whose gradients, at a scale above what it bears, are beyond fp16."""

    def __init__(self, bears: float, overflow: float = math.inf) -> None:
        self._bears, self._overflow = bears, overflow
        self.gradients = torch.zeros(3)
        self.scales: list[float] = []

    def accumulate(self, scale: float) -> float:
        """Compute it at a scale."""
        self.scales.append(scale)
        self.gradients.copy_(TRUE * scale)
        if scale > self._bears:
            self.gradients[1] = self._overflow
        return 2.5


@given(st.lists(st.integers(min_value=0, max_value=40), min_size=1), st.integers(min_value=0, max_value=40))
def test_gradients_are_the_same_at_whatever_scale_a_step_bears(bearings: list[int], first: int) -> None:
    """Step after step the scale falls no further than it must, each fall is told, and gradients are exact to the bit."""
    told: list[str] = []
    scaling = DynamicScaling(told.append, 2.0**first)
    lowest = first
    for bears in bearings:
        step = Step(2.0**bears)

        assert scaling.differentiate(step.accumulate, step.gradients) == 2.5

        lowest = min(lowest, bears)
        assert torch.equal(step.gradients, TRUE)
        assert scaling.scale == step.scales[-1] == 2.0**lowest
        scaling.count_step()
    assert len(told) == first - lowest


@pytest.mark.parametrize("overflow", [math.inf, -math.inf, math.nan])
def test_one_gradient_that_is_not_finite_is_an_overflow(overflow: float) -> None:
    """However fp16 came by it; what is told has both scales."""
    told: list[str] = []
    step = Step(INITIAL_SCALE / 2, overflow)

    DynamicScaling(told.append).differentiate(step.accumulate, step.gradients)

    assert step.scales == [65536.0, 32768.0]
    assert told == [
        "Gradients left the range of fp16 at a loss scale of 65,536; the step is computed again at 32,768.",
    ]


def test_the_scale_grows_after_many_good_steps_in_a_row() -> None:
    """It doubles after 2,000 steps, as in PyTorch; an overflow begins the count anew."""
    scaling = DynamicScaling(lambda _: None)
    for _ in range(GROWTH_STEPS - 1):
        scaling.count_step()
    step = Step(INITIAL_SCALE / 2)
    scaling.differentiate(step.accumulate, step.gradients)
    scales = []
    for _ in range(GROWTH_STEPS):
        scaling.count_step()
        scales.append(scaling.scale)

    assert set(scales[:-1]) == {INITIAL_SCALE / 2}
    assert scales[-1] == INITIAL_SCALE


def test_a_step_that_bears_no_scale_fails_and_says_so() -> None:
    """At a scale of 1 the gradients themselves are beyond fp16: the reason, both numbers, and what would help."""
    step = Step(bears=0.0)

    with pytest.raises(FailedPrecondition) as failed:
        DynamicScaling(lambda _: None).differentiate(step.accumulate, step.gradients)

    assert (failed.value.reason, step.scales[-1]) == ("FP16_OVERFLOW", 1.0)
    assert all(words in failed.value.message for words in ("65,504", "loss scale of 1,", "bf16", "learning_rate"))


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_at_once(loss: float) -> None:
    """The forward pass is not scaled, so no scale is tried."""
    told: list[str] = []

    with pytest.raises(FailedPrecondition, match="activations left the range of fp16") as failed:
        DynamicScaling(told.append).differentiate(lambda _: loss, torch.zeros(3))

    assert (failed.value.reason, told) == ("FP16_OVERFLOW", [])


def test_in_bf16_nothing_is_scaled_or_judged() -> None:
    """Its range is that of fp32: gradients and losses are taken as they are."""
    step = Step(bears=0.0)
    scaling = NoScaling()

    assert scaling.differentiate(step.accumulate, step.gradients) == 2.5
    scaling.require_finite(math.nan)
    scaling.count_step()

    assert step.scales == [1.0]
    assert torch.isinf(step.gradients[1])
