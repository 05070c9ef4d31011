"""Tells the runner how a job goes: heartbeats, progress, speed, and the peak of each phase."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from trainer_svc.jobs.workspace import Phase, Progress, Workspace
from trainer_svc.memory.techniques import Techniques, describe
from trainer_svc.worker.device import Memory


class Meter:
    """Writes to one workspace; `phase_peak_bytes` fills as phases end."""

    def __init__(self, workspace: Workspace, memory: Memory) -> None:
        """Begin with no phase measured."""
        self._workspace = workspace
        self._memory = memory
        self._phase = Phase.LOAD
        self._begun_s = self._last_s = time.monotonic()
        self._aside_s = 0.0
        self._num_tokens = self._num_rows = 0
        self._last_step: Progress | None = None
        self.phase_peak_bytes: dict[str, int] = {}
        self.used_peak_bytes = 0
        self.train_losses: list[float] = []

    @property
    def peak_bytes(self) -> int:
        """The most that was taken so far, above the baseline."""
        return max(self._memory.peak_bytes(), *self.phase_peak_bytes.values(), 0)

    @property
    def phase_seconds(self) -> float:
        """Seconds since the phase began, without those between steps in which the loss on held-out rows was measured."""
        return time.monotonic() - self._begun_s - self._aside_s

    @property
    def tokens_per_second(self) -> float:
        """Row tokens a second since the phase began; shared tokens count for every row they belong to."""
        return self._num_tokens / max(self.phase_seconds, 1e-9)

    @contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Measure a phase's peak, even when it fails."""
        self._phase = phase
        self._begun_s = self._last_s = time.monotonic()
        self._aside_s = 0.0
        self._num_tokens = self._num_rows = 0
        self._memory.begin_phase()
        self.beat()
        self._workspace.append_progress(
            Progress(phase, step=len(self.train_losses), num_steps=0, peak_bytes=self.peak_bytes)
        )
        try:
            yield
        finally:
            self.phase_peak_bytes[phase] = self._memory.peak_bytes()
            self.used_peak_bytes = max(self.used_peak_bytes, self._memory.used_peak_bytes())

    def report_climb(self, phase: Phase, techniques: Techniques) -> None:
        """Report that memory ran out, and by which techniques the job goes on."""
        step = len(self.train_losses)
        self._workspace.append_progress(
            Progress(
                phase=phase,
                step=step,
                num_steps=0,
                peak_bytes=self.peak_bytes,
                message=f"Out of memory in phase {phase} after {step} steps; it goes on with {describe(techniques)}.",
                climbed_to=techniques,
            )
        )

    def tell(self, message: str) -> None:
        """Report something in a sentence for people."""
        step = len(self.train_losses)
        self._workspace.append_progress(
            Progress(self._phase, step, num_steps=0, peak_bytes=self.peak_bytes, message=message)
        )

    def beat(self) -> None:
        """Say that the worker lives, and look at its memory."""
        self._workspace.beat()
        self._memory.note()

    def restart_clock(self) -> None:
        """Measure speed from now on."""
        self._begun_s = self._last_s = time.monotonic()
        self.beat()

    def count(self, *, num_rows: int, num_tokens: int) -> None:
        """Count rows that were computed."""
        self._num_rows += num_rows
        self._num_tokens += num_tokens
        self.beat()

    def report_step(self, *, num_steps: int, loss: float, learning_rate: float) -> None:
        """Report an optimizer step."""
        self.train_losses.append(loss)
        step, now = len(self.train_losses), time.monotonic()
        self._last_step = Progress(
            phase=self._phase,
            step=step,
            num_steps=num_steps,
            loss=loss,
            learning_rate=learning_rate,
            tokens_per_second=self.tokens_per_second,
            rows_per_second=self._num_rows / max(self.phase_seconds, 1e-9),
            step_seconds=now - self._last_s,
            eta_s=(now - self._begun_s) / step * (num_steps - step),
            peak_bytes=self.peak_bytes,
        )
        self._workspace.append_progress(self._last_step)
        self._last_s = now

    def report_held_out(self, loss: float) -> None:
        """Report the loss on held-out rows after the last step: what passed since then was no part of a step."""
        now = time.monotonic()
        self._aside_s += now - self._last_s
        self._last_s = now
        if self._last_step is not None:
            line = replace(self._last_step, held_out_loss=loss, step_seconds=None, peak_bytes=self.peak_bytes)
            self._workspace.append_progress(line)
