"""What the worker computes in: bf16, or fp16 on cards that have no bf16.

Both take two bytes, so values change from one to the other where they lie, and a plan's bytes are the same. fp16 has eleven
significant bits where bf16 has eight, and a far smaller range. A base is bf16 in its files and where it is served: in fp16 its values
are the same from 2^-17 on, since fp16's subnormals still hold eight bits there; smaller ones are off by 2^-25 at most; those beyond
65,504 have none, and the base is refused. In fp32 are, in both: masters, sums of gradients, moments, the inside of norms and of the
loss, the sums of products, and those over shared nodes.

In fp16 are the residual stream, too, and the product of gate and up. Both grow with depth in some models (outlier features, Dettmers
et al. 2022; massive activations, Sun et al. 2024), and nothing but a wider type helps where they pass 65,504: in fp32 they would take
twice the records that a plan counts. Then the loss is not finite, and the job fails and says so (`loss_scale`).
"""

import torch

from adaptory.core.errors import FailedPrecondition
from trainer_svc.memory.techniques import ComputePrecision

# Also the size of overflow that errors tell.
MAX_FP16 = torch.finfo(torch.float16).max


def dtype_of(compute: ComputePrecision) -> torch.dtype:
    """Return PyTorch's type of a precision."""
    return {ComputePrecision.BF16: torch.bfloat16, ComputePrecision.FP16: torch.float16}[compute]


def recast_(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return bf16 values in another type of two bytes, in the memory they lie in: `values` are not to be used again."""
    recast = values.view(dtype)
    return recast if dtype is values.dtype else recast.copy_(values)


def require_range(name: str, values: torch.Tensor) -> None:
    """Raise FailedPrecondition where a tensor of the base has a value that fp16 has none for; allocates nothing of size."""
    low, high = (bound.item() for bound in values.aminmax())
    largest = max(abs(low), abs(high))
    # Written so that NaN, which compares with nothing, is refused, too.
    if not largest <= MAX_FP16:
        raise FailedPrecondition(
            f"{name} of the base has a value of {largest:,.0f}, and fp16 ends at {MAX_FP16:,.0f}: train on a device that computes in"
            " bf16 (CUDA from compute capability 8.0 on, or a CPU), or take another base model",
            reason="BASE_OVERFLOWS_FP16",
            metadata={"tensor": name, "largest": str(largest), "limit": str(MAX_FP16)},
        )
