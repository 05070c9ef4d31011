"""AdamW on the adapter's fp32 masters, with clipping and a linear schedule.

Weights and gradients are fp32, and so is the arithmetic on the moments: in bf16 the second moment stalls, since 0.1 % a step is
below its rounding.
"""

import math

import torch

from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.moments import Moments, Update

# As torch.nn.utils.clip_grad_norm_ has it.
_CLIP_EPSILON = 1e-6


class Optimizer:
    """Updates one adapter; the schedule is that of transformers' `get_linear_schedule_with_warmup`."""

    def __init__(self, adapter: Adapter, moments: Moments, settings: TrainingSettings, num_steps: int) -> None:
        """Begin at step 0 of `num_steps`."""
        self._adapter = adapter
        self._moments = moments
        self._settings = settings
        self._num_steps = num_steps
        self._num_warmup_steps = math.ceil(num_steps * settings.warmup_share)
        self._step = 0

    def step(self) -> float:
        """Clip, update the masters and their copies, clear the gradients; return the learning rate that was used.

        A step that failed for want of memory can be taken again once the gradients were computed anew.
        """
        learning_rate = self._settings.learning_rate * self._learning_rate_share()
        masters, gradients = self._adapter.masters, self._adapter.gradients
        norm = torch.linalg.vector_norm(gradients)
        gradients.mul_(torch.clamp(self._settings.max_grad_norm / (norm + _CLIP_EPSILON), max=1.0))
        self._moments.update(masters, gradients, Update(self._step + 1, learning_rate, self._settings.weight_decay))
        self._adapter.refresh_copies()
        self._adapter.gradients.zero_()
        self._step += 1
        return learning_rate

    def _learning_rate_share(self) -> float:
        if self._step < self._num_warmup_steps:
            return self._step / max(1, self._num_warmup_steps)
        return max(0.0, (self._num_steps - self._step) / max(1, self._num_steps - self._num_warmup_steps))
