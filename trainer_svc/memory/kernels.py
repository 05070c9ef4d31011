"""What a CPU's matrix library takes: kernels it makes for every size of product it meets, keeps, and never quite lets go of."""

from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import Techniques

# What oneDNN's kernels take (measured on hidden sizes of 384 to 1,024, AVX-512): of each number of nodes a step meets, of each
# shape of its attention, and once. Beyond 2,048 they are taken to grow no further.
_KERNELS_ONCE_BYTES = 10_000_000
_NODE_KERNEL_BYTES, _NODE_KERNEL_BYTES_PER_HIDDEN, _MAX_KERNEL_HIDDEN = 28_500_000, 17_000, 2048
_ATTENTION_KERNEL_BYTES = 11_000_000
# What of each kernel stays for good, though it is no longer kept: brgemm's own store, which nothing bounds (measured, any size).
_LASTING_KERNEL_BYTES, _KERNELS_PER_NODES, _KERNELS_PER_ATTENTION = 275_000, 31, 4
# Holes of the heap where all kernels come and go between what stays of them (measured).
_KERNEL_HOLES_BYTES = 50_000_000


def count_kernels(shape: ModelShape, techniques: Techniques, num_nodes: int, num_attentions: int) -> int:
    """Return what a CPU's matrix library takes, which meets so many numbers of nodes, and shapes of attention.

    Those of so many sizes are kept; of the others there is what lasts, and holes.
    """
    lasting = num_nodes * _KERNELS_PER_NODES + num_attentions * _KERNELS_PER_ATTENTION
    holes = round(_KERNEL_HOLES_BYTES * max(0.0, 1 - techniques.kernel_sizes / max(1, num_nodes)))
    passing = count_passing_kernels(shape, techniques, num_nodes, num_attentions)
    return _KERNELS_ONCE_BYTES + passing + lasting * _LASTING_KERNEL_BYTES + holes


def count_passing_kernels(shape: ModelShape, techniques: Techniques, num_nodes: int, num_attentions: int) -> int:
    """Return what of these kernels makes way for others."""
    of_nodes = _NODE_KERNEL_BYTES + _NODE_KERNEL_BYTES_PER_HIDDEN * min(shape.hidden_size, _MAX_KERNEL_HIDDEN)
    of_nodes -= _LASTING_KERNEL_BYTES * _KERNELS_PER_NODES
    of_attentions = _ATTENTION_KERNEL_BYTES - _LASTING_KERNEL_BYTES * _KERNELS_PER_ATTENTION
    kept = techniques.kernel_sizes
    return min(num_nodes, kept) * of_nodes + min(num_attentions, kept) * of_attentions
