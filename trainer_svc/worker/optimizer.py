"""AdamW on the adapter's fp32 masters, with clipping and a linear schedule.

Weights, gradients and both moments are fp32: in bf16 the second moment stalls, since 0.1 % a step is below its rounding.
"""

import math

import torch

from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.worker.adapter import Adapter


class Optimizer:
    """Updates one adapter; the schedule is that of transformers' `get_linear_schedule_with_warmup`."""

    def __init__(self, adapter: Adapter, settings: TrainingSettings, num_steps: int) -> None:
        """Begin at step 0 of `num_steps`; the moments are allocated at the first step."""
        self._adapter = adapter
        self._settings = settings
        self._num_steps = num_steps
        self._num_warmup_steps = math.ceil(num_steps * settings.warmup_share)
        self._step = 0
        self._weights = torch.nn.Parameter(adapter.masters)
        self._weights.grad = adapter.gradients
        self._adamw = torch.optim.AdamW(
            [self._weights], lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def step(self) -> float:
        """Clip, update the masters and their copies, clear the gradients; return the learning rate that was used."""
        learning_rate = self._settings.learning_rate * self._learning_rate_share()
        self._adamw.param_groups[0]["lr"] = learning_rate
        torch.nn.utils.clip_grad_norm_([self._weights], self._settings.max_grad_norm)
        self._adamw.step()
        self._adapter.refresh_copies()
        self._adapter.gradients.zero_()
        self._step += 1
        return learning_rate

    def _learning_rate_share(self) -> float:
        if self._step < self._num_warmup_steps:
            return self._step / max(1, self._num_warmup_steps)
        return max(0.0, (self._num_steps - self._step) / max(1, self._num_steps - self._num_warmup_steps))
