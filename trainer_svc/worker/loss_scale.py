"""Loss scaling: what keeps gradients in fp16's range (Micikevicius et al. 2018).

The loss is multiplied by a scale before it is differentiated, and the gradients, which are summed in fp32, are divided by it before
they are clipped: the small ones, of which fp16 has none below 2^-25, come through. Where the scale begins, by what it falls and
grows, and after how many steps, is as in torch.amp.GradScaler. Unlike there a step that overflows is not left out but computed again,
on the same rows: data order, schedule and effective batch stay what they are, as on the memory ladder. Scales are powers of two, so
that dividing by them is exact.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch

from adaptory.core.errors import FailedPrecondition
from trainer_svc.memory.techniques import ComputePrecision
from trainer_svc.worker.compute import MAX_FP16

# torch.amp.GradScaler's init_scale, backoff_factor, growth_factor and growth_interval.
INITIAL_SCALE = 2.0**16
BACKOFF, GROWTH, GROWTH_STEPS = 0.5, 2.0, 2000
# DeepSpeed's min_loss_scale: below it the gradients themselves overflow, not what they are multiplied by.
MIN_SCALE = 1.0

_WAYS_OUT = (
    "train on a device that computes in bf16 (CUDA from compute capability 8.0 on, or a CPU), at a lower learning_rate, or on"
    " another base model"
)


class LossScaling(Protocol):
    """How the gradients of a step come by their values."""

    def differentiate(self, accumulate: Callable[[float], float], gradients: torch.Tensor) -> float:
        """Return the loss of a step and leave its gradients in `gradients`.

        `accumulate` sets these to the gradients of so many times the loss, which it returns as it is; it may be called again.
        """

    def require_finite(self, loss: float) -> None:
        """Raise FailedPrecondition where a loss says that the forward pass left the range of what is computed in."""

    def count_step(self) -> None:
        """Take note that a step was taken with the last gradients."""


class NoScaling:
    """For bf16, whose range is that of fp32."""

    def differentiate(self, accumulate: Callable[[float], float], gradients: torch.Tensor) -> float:  # noqa: ARG002 - as they are
        """Return the loss of a step and leave its gradients as they are computed."""
        return accumulate(1.0)

    def require_finite(self, loss: float) -> None:
        """Do nothing: a loss that is not finite is the training's, which stops or is refused for it."""

    def count_step(self) -> None:
        """Do nothing."""


class DynamicScaling:
    """For fp16: halves its scale where gradients overflow, and doubles it when they have not for long."""

    def __init__(self, tell: Callable[[str], None], scale: float = INITIAL_SCALE) -> None:
        """Begin with a scale, a power of two; `tell` is told in a sentence of each time it falls."""
        self._tell = tell
        self._num_good_steps = 0
        self.scale = scale

    def differentiate(self, accumulate: Callable[[float], float], gradients: torch.Tensor) -> float:
        """Return the loss of a step and leave its gradients, computed again at half the scale as long as they overflow.

        Raises FailedPrecondition when the loss is not finite, which no scale changes, and when the scale would fall below 1.
        """
        while True:
            loss = accumulate(self.scale)
            self.require_finite(loss)
            gradients.mul_(1 / self.scale)
            # Infinite or NaN where any of them is: one number, without a mask of their size.
            if torch.linalg.vector_norm(gradients).isfinite():
                return loss
            self._back_off()

    def require_finite(self, loss: float) -> None:
        """Raise FailedPrecondition for a loss that is not finite: activations overflowed, and they are not scaled."""
        if not math.isfinite(loss):
            raise FailedPrecondition(
                f"the loss is {loss}: activations left the range of fp16, which ends at {MAX_FP16:,.0f}, and scaling does not help"
                f" these; {_WAYS_OUT}",
                reason="FP16_OVERFLOW",
                metadata={"loss": str(loss), "loss_scale": str(self.scale), "limit": str(MAX_FP16)},
            )

    def count_step(self) -> None:
        """Count a step without overflow; after 2,000 of them in a row the scale is doubled."""
        self._num_good_steps += 1
        if self._num_good_steps == GROWTH_STEPS:
            self.scale *= GROWTH
            self._num_good_steps = 0

    def _back_off(self) -> None:
        failed, self._num_good_steps = self.scale, 0
        if failed * BACKOFF < MIN_SCALE:
            raise FailedPrecondition(
                f"gradients left the range of fp16, which ends at {MAX_FP16:,.0f}, at a loss scale of {failed:g}, and the lowest is"
                f" {MIN_SCALE:g}; {_WAYS_OUT}",
                reason="FP16_OVERFLOW",
                metadata={"loss_scale": str(failed), "lowest_loss_scale": str(MIN_SCALE), "limit": str(MAX_FP16)},
            )
        self.scale = failed * BACKOFF
        self._tell(
            f"Gradients left the range of fp16 at a loss scale of {failed:,.0f}; the step is computed again at {self.scale:,.0f}."
        )


def choose_scaling(compute: ComputePrecision, tell: Callable[[str], None]) -> LossScaling:
    """Return the scaling that a precision needs; `tell` is told in a sentence of each time a scale falls."""
    return DynamicScaling(tell) if compute is ComputePrecision.FP16 else NoScaling()
