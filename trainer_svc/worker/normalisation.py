"""Root-mean-square norms with frozen weights, forward and backward, as the Llama family has them: in fp32, rounded before the weight.

y = w * bf16(x / sqrt(mean(x²) + eps)); with x̂ = x / rms and g = w * dy: dx = (g - x̂ mean(g x̂)) / rms.
"""

from collections.abc import Sequence
from typing import Self

import torch

from trainer_svc.worker.base import FrozenLayer


class RmsNorm:
    """A norm over the last dimension."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        """Keep the frozen weight."""
        self._weight = weight
        self._eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normed x."""
        wide = x.float()
        return wide.mul_(self._inverse_rms(wide)).to(x.dtype).mul_(self._weight)

    def backward(self, grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the gradient of x from that of the normed x."""
        wide = x.float()
        inverse = self._inverse_rms(wide)
        wide.mul_(inverse)
        scaled = (grad * self._weight).float()
        overlap = (scaled * wide).mean(-1, keepdim=True)
        return scaled.sub_(wide.mul_(overlap)).mul_(inverse).to(grad.dtype)

    def _inverse_rms(self, wide: torch.Tensor) -> torch.Tensor:
        return wide.square().mean(-1, keepdim=True).add_(self._eps).rsqrt_()


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

    def forward(self, heads: torch.Tensor, out: torch.Tensor) -> None:
        """Write the packed heads, queries and keys normed, to `out`."""
        query, key, value = self._split(heads)
        torch.cat((self._query.forward(query), self._key.forward(key), value), 1, out=out)

    def backward(self, grad: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the heads from that of the normed ones."""
        query, key, _ = self._split(heads)
        grad_query, grad_key, grad_value = self._split(grad)
        return torch.cat((self._query.backward(grad_query, query), self._key.backward(grad_key, key), grad_value), 1)

    def _split(self, heads: torch.Tensor) -> Sequence[torch.Tensor]:
        num_queries = heads.shape[1] - 2 * self._num_kv_heads
        return heads.split_with_sizes((num_queries, self._num_kv_heads, self._num_kv_heads), 1)
