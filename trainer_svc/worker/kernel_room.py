"""Sees that the CPU's matrix library finds room for the kernels it makes of every size of micro-batch it has not met.

oneDNN does not survive the want of it: it makes no kernel any more, of whatever size, until the process ends. So the room is asked
for first, in PyTorch's own way, whose failure costs a rung of the ladder and no more.
"""

from collections.abc import Sequence

from trainer_svc.memory.layout import PackSize, count_kernels, count_sizes
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
        # In the order they were last met.
        self._met: dict[tuple[int, int, int], None] = {}

    def foresee(self, techniques: Techniques, packs: Sequence[PackSize]) -> None:
        """Require room for all that is to come, less what is there. Raises as a failed allocation."""
        present = [size for size in packs if _key_of(size) in self._met]
        room_bytes = self._count(techniques, packs) - (self._count(techniques, present) if present else 0)
        self._memory.require_kernel_room(max(room_bytes, self._count(techniques, packs[:1])))

    def meet(self, techniques: Techniques, pack: PackSize) -> None:
        """Require room for one size, unless it is among those met last. Raises as a failed allocation."""
        key = _key_of(pack)
        if key not in self._met:
            self._memory.require_kernel_room(self._count(techniques, [pack]))
        self._met.pop(key, None)
        self._met[key] = None
        if len(self._met) > self._kept:
            del self._met[next(iter(self._met))]

    def _count(self, techniques: Techniques, packs: Sequence[PackSize]) -> int:
        return count_kernels(self._shape, techniques, *count_sizes(packs))


def _key_of(pack: PackSize) -> tuple[int, int, int]:
    return pack.nodes, pack.rows, pack.width
