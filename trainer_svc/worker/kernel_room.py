"""Sees that the CPU's matrix library finds room for the kernels it makes of every size of micro-batch it has not met.

oneDNN does not survive the want of it: it makes no kernel any more, of whatever size, until the process ends. So the room is asked
for first, in PyTorch's own way, whose failure costs a rung of the ladder and no more.
"""

from collections.abc import Sequence

from trainer_svc.memory.kernels import count_kernels, count_passing_kernels
from trainer_svc.memory.layout import PackSize, count_sizes
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import Techniques
from trainer_svc.worker.device import Memory


class KernelRoom:
    """The sizes of one process that have kernels, as the library keeps them: those met last."""

    def __init__(self, memory: Memory, shape: ModelShape, kept: int) -> None:
        """Begin with none met, of so many sizes that are kept."""
        self._memory = memory
        self._shape = shape
        self._kept = kept
        # By what kernels are made for, in the order they were last met.
        self._met: dict[tuple[int, int, int], PackSize] = {}

    def foresee(self, techniques: Techniques, packs: Sequence[PackSize]) -> None:
        """Require room for all that is to come, less what makes way for it. Raises as a failed allocation."""
        held_bytes = count_passing_kernels(self._shape, techniques, *count_sizes(self._met.values()))
        room_bytes = self._count(techniques, packs) - held_bytes
        self._memory.require_kernel_room(max(room_bytes, self._count(techniques, packs[:1])))

    def meet(self, techniques: Techniques, pack: PackSize) -> None:
        """Require room for one size, unless it is among those met last. Raises as a failed allocation."""
        key = pack.nodes, pack.rows, pack.width
        if key not in self._met:
            self._memory.require_kernel_room(self._count(techniques, [pack]))
        self._met.pop(key, None)
        self._met[key] = pack
        if len(self._met) > self._kept:
            del self._met[next(iter(self._met))]

    def _count(self, techniques: Techniques, packs: Sequence[PackSize]) -> int:
        return count_kernels(self._shape, techniques, *count_sizes(packs))
