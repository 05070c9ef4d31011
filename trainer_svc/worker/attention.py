"""Causal attention over a pack: each row sees its own path through the prefix tree.

Queries, keys and values are computed once per node, gathered into rows for attention alone, and summed back. So no mask beyond the
causal one is needed and any attention kernel will do. Owns rotary positions and both kernels; which tokens are shared is `packing`'s.
R rows of at most L tokens, N nodes, H query heads in G groups over K key heads, D elements a head.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch.nn import functional

from adaptory.core.base_shape import BaseShape
from trainer_svc.worker.packing import Pack

# Elements of one block of attention scores on the CPU: 16 MiB in bf16 bound what a long row takes for a moment.
MAX_SCORE_ELEMENTS = 1 << 23


class Kernel(Protocol):
    """Causal attention of B rows: q [B, G, L, D] beside k and v [B, L, D]; the G query heads of a row share its keys."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the attended values, shaped as q."""

    def differentiate(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients of q, k and v from that of the attended values."""


class FusedKernel:
    """PyTorch's scaled_dot_product_attention, differentiated by autograd: never holds the scores. For CUDA."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the attended values, shaped as q."""
        return functional.scaled_dot_product_attention(q, k[:, None], v[:, None], is_causal=True, enable_gqa=True)

    def differentiate(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients of q, k and v; the forward pass is run again."""
        with torch.enable_grad():
            query, key, value = (tensor.detach().requires_grad_() for tensor in (q, k, v))
            grad_q, grad_k, grad_v = torch.autograd.grad(self.attend(query, key, value), (query, key, value), grad)
        return grad_q, grad_k, grad_v


class PlainKernel:
    """Attention as matrix products: on a CPU its backward pass takes a fifth of the fused kernel's time.

    Scores are made again in the backward pass, and in blocks, so that they never add up.
    """

    def __init__(self, max_score_elements: int = MAX_SCORE_ELEMENTS) -> None:
        """Bound the scores of one block."""
        self._max_score_elements = max_score_elements

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the attended values, shaped as q."""
        attended = torch.empty_like(q)
        for query, key, value, out in self._cut_blocks(q, k, v, attended):
            torch.bmm(_weigh(query, key), value, out=out)
        return attended

    def differentiate(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients of q, k and v."""
        grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for query, key, value, upstream, grad_q, grad_k, grad_v in self._cut_blocks(q, k, v, grad, *grads):
            weights = _weigh(query, key)
            torch.bmm(weights.transpose(1, 2), upstream, out=grad_v)
            grad_scores = torch._softmax_backward_data(  # noqa: SLF001 - the formula of softmax's own derivative
                upstream @ value.transpose(1, 2), weights, -1, weights.dtype
            )
            grad_scores.mul_(query.shape[-1] ** -0.5)
            torch.bmm(grad_scores, key, out=grad_q)
            torch.bmm(grad_scores.transpose(1, 2), query, out=grad_k)
        return grads

    def _cut_blocks(self, q: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Cut along B; the queries that share keys stand below each other: [b, G * L, D] beside [b, L, D]."""
        groups, length, width = q.shape[1:]
        num_blocks = -(-q.shape[0] * groups * length * length // self._max_score_elements)
        flat = [tensor.view(q.shape[0], -1, width) for tensor in (q, *others)]
        return zip(*(tensor.chunk(num_blocks) for tensor in flat), strict=True)


def choose_kernel(device: torch.device) -> Kernel:
    """Return the faster kernel of a device."""
    return FusedKernel() if device.type == "cuda" else PlainKernel()


def _weigh(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return the causal attention weights [b, G * L, L]."""
    length = key.shape[1]
    future = torch.full((length, length), float("-inf"), dtype=query.dtype, device=query.device).triu_(1)
    scores = torch.baddbmm(
        future.repeat(query.shape[1] // length, 1), query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5
    )
    return torch.softmax(scores, -1)


class TreeAttention:
    """Attention of one pack: heads of nodes in, heads of nodes out.

    Packed heads are [N, H + 2K, D]: the queries of a node, its keys, its values. Gathered heads lie in one buffer of vectors: queries
    [K, R, G, L], then keys [K, R, L], then values [K, R, L], so that both kernels read them without another copy.
    """

    def __init__(self, pack: Pack, shape: BaseShape, kernel: Kernel) -> None:
        """Plan the gathers of a pack; they are the same in every layer."""
        self._kernel = kernel
        num_rows, length = pack.paths.shape
        kv_heads, groups = shape.num_kv_heads, shape.num_heads // shape.num_kv_heads
        self._num_heads, self._head_dim = shape.num_heads, shape.head_dim
        self._query_shape = (kv_heads * num_rows, groups, length, shape.head_dim)
        self._key_shape = (kv_heads * num_rows, length, shape.head_dim)
        self._sizes = [shape.num_heads * num_rows * length] + [kv_heads * num_rows * length] * 2
        # places[r * L + t, head]: where the buffer holds that head of token t of row r.
        place = torch.arange(sum(self._sizes), device=pack.paths.device)
        query, key, value = place.split_with_sizes(self._sizes)
        places = torch.cat(
            (
                query.view(kv_heads, num_rows, groups, length).permute(1, 3, 0, 2).reshape(num_rows * length, -1),
                key.view(kv_heads, num_rows, length).permute(1, 2, 0).reshape(num_rows * length, -1),
                value.view(kv_heads, num_rows, length).permute(1, 2, 0).reshape(num_rows * length, -1),
            ),
            dim=1,
        )
        heads = pack.paths.reshape(-1, 1) * places.shape[1] + torch.arange(places.shape[1], device=place.device)
        self._gathered = torch.empty_like(place)
        self._gathered[places] = heads
        self._owned = places[pack.owners].flatten()
        self._owned_queries = places[pack.owners, : shape.num_heads].flatten()
        # Shared keys and values collect the gradients of all their rows; a shared query is used by its owner alone.
        self._copied = places[pack.copies, shape.num_heads :].flatten()
        self._copied_heads = heads[pack.copies, shape.num_heads :].flatten()

    def attend(self, packed: torch.Tensor, out: torch.Tensor) -> None:
        """Write the attended values [N, H * D] of packed heads [N, H + 2K, D] to `out`."""
        attended = self._kernel.attend(*self._gather(packed)).view(-1, self._head_dim)
        torch.index_select(attended, 0, self._owned_queries, out=out.view(-1, self._head_dim))

    def differentiate(self, packed: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the packed heads from that of the attended values."""
        upstream = grad.new_zeros(self._query_shape)
        upstream.view(-1, self._head_dim).index_copy_(0, self._owned_queries, grad.view(-1, self._head_dim))
        parts = self._kernel.differentiate(*self._gather(packed), upstream)
        gathered = torch.cat([part.reshape(-1, self._head_dim) for part in parts])
        grads = gathered.index_select(0, self._owned)
        if self._copied.numel():
            # In fp32, since a long shared beginning sums over all rows of the pack.
            total = grads.float().index_add_(0, self._copied_heads, gathered.index_select(0, self._copied).float())
            grads = total.to(grads.dtype)
        return grads.view_as(packed)

    def _gather(self, packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        gathered = packed.reshape(-1, self._head_dim).index_select(0, self._gathered)
        query, key, value = gathered.split_with_sizes(self._sizes)
        return query.view(self._query_shape), key.view(self._key_shape), value.view(self._key_shape)


class Rotation:
    """Rotary positions of a pack in the rotate-half convention: x' = x cos + rotate(x) sin, in place."""

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor) -> None:
        """Keep cos and sin of the nodes' positions, [N, D] with equal halves."""
        self._half = cos.shape[-1] // 2
        self._cos = cos[:, None]
        self._sin = torch.cat((-sin[:, : self._half], sin[:, self._half :]), -1)[:, None]

    def rotate_(self, heads: torch.Tensor) -> None:
        """Rotate heads [N, any, D] in place."""
        turned = heads.roll(self._half, -1).mul_(self._sin)
        heads.mul_(self._cos).add_(turned)

    def rotate_back_(self, heads: torch.Tensor) -> None:
        """Rotate by the opposite angle, which is also how a gradient goes back through `rotate_`."""
        turned = heads.roll(self._half, -1).mul_(self._sin)
        heads.mul_(self._cos).sub_(turned)
