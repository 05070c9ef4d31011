"""Root-mean-square norms with frozen weights, forward and backward, as the Llama family has them: in fp32, rounded before the weight.

y = w * round(x / sqrt(mean(x²) + eps)), to what is computed in; with x̂ = x / rms and g = w * dy: dx = (g - x̂ mean(g x̂)) / rms.
"""

from collections.abc import Sequence
from typing import Self

import torch

from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.weights import FrozenLayer


class RmsNorm:
    """A norm over the last dimension."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        """Keep the frozen weight."""
        self._weight = weight
        self._eps = eps

    def forward(self, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the normed x to `out` and return it."""
        with scratch.frame():
            wide = _widen(x, scratch)
            return out.copy_(wide.mul_(self._inverse_rms(wide))).mul_(self._weight)

    def backward(self, grad: torch.Tensor, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the gradient of x, from that of the normed x, to `out` and return it; `grad` is overwritten."""
        with scratch.frame():
            wide = _widen(x, scratch)
            inverse = self._inverse_rms(wide)
            wide.mul_(inverse)
            scaled = _widen(grad.mul_(self._weight), scratch)
            product = torch.mul(scaled, wide, out=scratch.take(*x.shape, dtype=torch.float32))
            overlap = product.mean(-1, keepdim=True)
            return out.copy_(scaled.sub_(wide.mul_(overlap)).mul_(inverse))

    def _inverse_rms(self, wide: torch.Tensor) -> torch.Tensor:
        mean_square: torch.Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(wide.shape[-1])
        return mean_square.add_(self._eps).rsqrt_()


class HeadNorms:
    """The norms of each query and key head, as Qwen3 has them; values pass."""

    def __init__(self, query: RmsNorm, key: RmsNorm, num_kv_heads: int) -> None:
        """Keep the two norms; packed heads are [N, queries + keys + values, D]."""
        self._query, self._key = query, key
        self._num_kv_heads = num_kv_heads

    @classmethod
    def build(cls, frozen: FrozenLayer, eps: float, num_kv_heads: int) -> Self | None:
        """Return the norms of a layer, or None where its architecture has none."""
        if frozen.query_norm is None or frozen.key_norm is None:
            return None
        return cls(RmsNorm(frozen.query_norm, eps), RmsNorm(frozen.key_norm, eps), num_kv_heads)

    def forward(self, heads: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> None:
        """Write the packed heads, queries and keys normed, to `out`."""
        query, key, value = self._split(heads)
        out_query, out_key, out_value = self._split(out)
        self._query.forward(query, scratch, out_query)
        self._key.forward(key, scratch, out_key)
        out_value.copy_(value)

    def backward_(self, grad: torch.Tensor, heads: torch.Tensor, scratch: Scratch) -> None:
        """Turn the gradient of the normed heads into that of the heads, in place."""
        query, key, _ = self._split(heads)
        grad_query, grad_key, _ = self._split(grad)
        self._query.backward(grad_query, query, scratch, out=grad_query)
        self._key.backward(grad_key, key, scratch, out=grad_key)

    def _split(self, heads: torch.Tensor) -> Sequence[torch.Tensor]:
        num_queries = heads.shape[1] - 2 * self._num_kv_heads
        return heads.split_with_sizes((num_queries, self._num_kv_heads, self._num_kv_heads), 1)


def _widen(x: torch.Tensor, scratch: Scratch) -> torch.Tensor:
    return scratch.take(*x.shape, dtype=torch.float32).copy_(x)
