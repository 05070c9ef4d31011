"""Root-mean-square norms with frozen weights, forward and backward, in fp32: Llama rounds before the weight, Gemma behind it.

y = w * round(x / sqrt(mean(x²) + eps)), to what is computed in; with x̂ = x / rms and g = w * dy: dx = (g - x̂ mean(g x̂)) / rms.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import torch

from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.weights import FrozenLayer


class Norm(Protocol):
    """A norm over the last dimension."""

    def forward(self, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the normed x to `out` and return it."""

    def backward(self, grad: torch.Tensor, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the gradient of x, from that of the normed x, to `out` and return it; `grad` may be overwritten, or be `out`."""


class RmsNorm:
    """Llama's."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        """Keep the frozen weight."""
        self._weight = weight
        self._eps = eps

    def forward(self, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the normed x to `out` and return it."""
        with scratch.frame():
            wide = _widen(x, scratch)
            return out.copy_(wide.mul_(_invert_rms(wide, self._eps))).mul_(self._weight)

    def backward(self, grad: torch.Tensor, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the gradient of x, from that of the normed x, to `out` and return it; `grad` is overwritten."""
        with scratch.frame():
            wide = _widen(x, scratch)
            return _differentiate(wide, _widen(grad.mul_(self._weight), scratch), self._eps, scratch, out)


class OffsetRmsNorm:
    """Gemma's: its weights are told from 1, and y = round((1 + w) x / rms), all of it in fp32."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        """Take the frozen weight; what it makes of x is kept in fp32, since near 1 most of its digits would be lost."""
        self._factor = 1.0 + weight.float()
        self._eps = eps

    def forward(self, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the normed x to `out` and return it."""
        with scratch.frame():
            wide = _widen(x, scratch)
            return out.copy_(wide.mul_(_invert_rms(wide, self._eps)).mul_(self._factor))

    def backward(self, grad: torch.Tensor, x: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> torch.Tensor:
        """Write the gradient of x, from that of the normed x, to `out` and return it."""
        with scratch.frame():
            wide = _widen(x, scratch)
            return _differentiate(wide, _widen(grad, scratch).mul_(self._factor), self._eps, scratch, out)


class HeadNorms:
    """The norms of each query and key head, as Qwen3 and Gemma 3 have them; values pass."""

    def __init__(self, query: Norm, key: Norm, num_kv_heads: int) -> None:
        """Keep the two norms; packed heads are [N, queries + keys + values, D]."""
        self._query, self._key = query, key
        self._num_kv_heads = num_kv_heads

    @classmethod
    def build(cls, frozen: FrozenLayer, make: Callable[[torch.Tensor], Norm], num_kv_heads: int) -> Self | None:
        """Return the norms of a layer, or None where its architecture has none."""
        if frozen.query_norm is None or frozen.key_norm is None:
            return None
        return cls(make(frozen.query_norm), make(frozen.key_norm), num_kv_heads)

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


def _differentiate(
    wide: torch.Tensor, scaled: torch.Tensor, eps: float, scratch: Scratch, out: torch.Tensor
) -> torch.Tensor:
    """Write the gradient of x to `out`, from x and g in fp32; both are overwritten."""
    inverse = _invert_rms(wide, eps)
    wide.mul_(inverse)
    product = torch.mul(scaled, wide, out=scratch.take(*wide.shape, dtype=torch.float32))
    overlap = product.mean(-1, keepdim=True)
    return out.copy_(scaled.sub_(wide.mul_(overlap)).mul_(inverse))


def _invert_rms(wide: torch.Tensor, eps: float) -> torch.Tensor:
    mean_square: torch.Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(wide.shape[-1])
    return mean_square.add_(eps).rsqrt_()


def _widen(x: torch.Tensor, scratch: Scratch) -> torch.Tensor:
    return scratch.take(*x.shape, dtype=torch.float32).copy_(x)
