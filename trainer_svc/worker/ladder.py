"""Goes on with less memory where an allocation failed: the next rung of the plan, then the same work again.

Owns the climb. The rungs come with the plan (`memory.planner`); what a rung changes is `rig`'s. The work must be one that can be
begun again: a load, the gradients and update of one step, an evaluation.
"""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

from trainer_svc.jobs.workspace import Phase, Rung
from trainer_svc.worker.device import is_end_of_kernels, is_out_of_memory
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.rig import Rig

Result = TypeVar("Result")


class KernelsLost(Exception):
    """The matrix library makes no kernels any more in this process; the job can go on in another, from this rung of its ladder."""

    def __init__(self, place: int) -> None:
        """Keep the place of the rung."""
        super().__init__(f"no more kernels; the job goes on from rung {place}")
        self.place = place


class Ladder:
    """The rungs of one job, climbed in order and never down."""

    def __init__(self, rungs: Sequence[Rung], rig: Rig, meter: Meter) -> None:
        """Stand on the first rung, the plan; `load` sets the rig up by it."""
        self._rungs = rungs
        self._place = 0
        self._rig = rig
        self._meter = meter
        self.num_climbs = 0

    def load(self) -> None:
        """Set the rig up. Raises as the last failed allocation when no rung fits."""
        self.run(Phase.LOAD, lambda: None)

    def run(self, phase: Phase, work: Callable[[], Result]) -> Result:
        """Return what the work returns, begun again on the next rung each time an allocation fails.

        Raises whatever else the work raises, the failed allocation itself when no rung is left that takes less in this phase, and
        KernelsLost where only a new process could go on.
        """
        is_set_up = phase is not Phase.LOAD
        while True:
            try:
                if not is_set_up:
                    self._rig.set_up(self._rungs[self._place].techniques)
                    is_set_up = True
                return work()
            except (MemoryError, RuntimeError) as error:
                failed = phase if is_set_up else Phase.LOAD
                if not is_out_of_memory(error) or not self._climb(failed):
                    raise
                are_kernels_lost = is_end_of_kernels(error)
            # Only now, without the error, are the tensors free that its frames held.
            self._rig.give_back_workplace()
            gc.collect()
            self._meter.report_climb(phase, self._rungs[self._place].techniques)
            if are_kernels_lost:
                raise KernelsLost(self._place)
            is_set_up = False

    def _climb(self, phase: Phase) -> bool:
        """Step onto the next rung that takes less in the phase; tell whether there is one."""
        present = self._rungs[self._place].phases
        for place in range(self._place + 1, len(self._rungs)):
            if self._rungs[place].phases[phase] < present[phase]:
                self._place = place
                self.num_climbs += 1
                return True
        return False
