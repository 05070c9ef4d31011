"""Causal attention over a pack: each row sees its own path through the prefix tree.

Queries, keys and values are computed once per node, gathered into rows for attention alone, and summed back. So no mask beyond the
causal one is needed and any attention kernel will do. Owns rotary positions and both kernels; which tokens are shared is `packing`'s.
R rows of at most L tokens, N nodes, H query heads in G groups over K key heads, D elements a head.
"""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from trainer_svc.memory.layout import MAX_SCORE_ELEMENTS
from trainer_svc.memory.shape import ModelShape
from trainer_svc.worker.architecture import Sight
from trainer_svc.worker.packing import Pack
from trainer_svc.worker.scratch import Scratch


@dataclass(frozen=True, slots=True)
class Heads:
    """Gathered heads of B rows: q [B, G, L, D] beside k and v [B, L, D]; the G query heads of a row share its keys."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor


class Kernel(Protocol):
    """Causal attention of rows."""

    def attend(self, heads: Heads, scratch: Scratch, out: torch.Tensor) -> None:
        """Write the attended values, shaped as q, to `out`."""

    def differentiate(self, heads: Heads, upstream: torch.Tensor, scratch: Scratch, out: Heads) -> None:
        """Write the gradients of q, k and v, from that of the attended values, to `out`."""


class FusedKernel:
    """FlashAttention as PyTorch has it, differentiated by autograd: never holds the scores. For CUDA from compute capability 8.0 on.

    What it takes beside the stack is `layout.count_attention`'s.
    """

    def __init__(self, sight: Sight) -> None:
        """Take what tokens see."""
        self._sight = sight

    def attend(self, heads: Heads, scratch: Scratch, out: torch.Tensor) -> None:  # noqa: ARG002 - the kernel's own memory
        """Write the attended values, shaped as q, to `out`."""
        out.copy_(_attend_fused(self._sight, heads.q, heads.k, heads.v))

    def differentiate(self, heads: Heads, upstream: torch.Tensor, scratch: Scratch, out: Heads) -> None:  # noqa: ARG002
        """Write the gradients of q, k and v to `out`; the forward pass is run again."""
        with torch.enable_grad():
            inputs = tuple(tensor.detach().requires_grad_() for tensor in (heads.q, heads.k, heads.v))
            grads = torch.autograd.grad(_attend_fused(self._sight, *inputs), inputs, upstream)
        for target, grad in zip((out.q, out.k, out.v), grads, strict=True):
            target.copy_(grad)


class PlainKernel:
    """Attention as matrix products, for all that has no FlashAttention: on a CPU its backward pass takes a fifth of that one's time.

    Scores are made again in the backward pass, and in blocks, so that they never add up.
    """

    def __init__(self, sight: Sight, max_score_elements: int = MAX_SCORE_ELEMENTS) -> None:
        """Take what tokens see, and bound the scores of one block."""
        self._sight = sight
        self._max_score_elements = max_score_elements

    def attend(self, heads: Heads, scratch: Scratch, out: torch.Tensor) -> None:
        """Write the attended values, shaped as q, to `out`."""
        for query, key, value, attended in self._cut_blocks(heads.q, heads.k, heads.v, out):
            with scratch.frame():
                torch.bmm(_weigh(query, key, self._sight, scratch), value, out=attended)

    def differentiate(self, heads: Heads, upstream: torch.Tensor, scratch: Scratch, out: Heads) -> None:
        """Write the gradients of q, k and v to `out`."""
        tensors = (heads.q, heads.k, heads.v, upstream, out.q, out.k, out.v)
        for query, key, value, grad, out_query, out_key, out_value in self._cut_blocks(*tensors):
            with scratch.frame():
                weights = _weigh(query, key, self._sight, scratch)
                torch.bmm(weights.transpose(1, 2), grad, out=out_value)
                grad_weights = torch.bmm(grad, value.transpose(1, 2), out=scratch.take(*weights.shape))
                grad_scores = torch._softmax_backward_data(  # noqa: SLF001 - the formula of softmax's own derivative
                    grad_weights, weights, -1, weights.dtype, grad_input=scratch.take(*weights.shape)
                )
                grad_scores.mul_(self._sight.scale)
                torch.bmm(grad_scores, key, out=out_query)
                torch.bmm(grad_scores.transpose(1, 2), query, out=out_key)

    def _cut_blocks(self, q: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Cut along B; the queries that share keys stand below each other: [b, G * L, D] beside [b, L, D]."""
        groups, length, width = q.shape[1:]
        block = max(1, self._max_score_elements // (groups * length * length))
        flat = [tensor.view(q.shape[0], -1, width) for tensor in (q, *others)]
        return zip(*(torch.split(tensor, block) for tensor in flat), strict=True)


def choose_kernels(device: torch.device, dtype: torch.dtype, sights: Mapping[str, Sight]) -> dict[str, Kernel]:
    """Return the faster kernel for each type of layer; with fp16 that is the plain one (`techniques.holds_scores`)."""
    kernel = FusedKernel if device.type == "cuda" and dtype is torch.bfloat16 else PlainKernel
    return {kind: kernel(sight) for kind, sight in sights.items()}


def _attend_fused(sight: Sight, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    length, window = q.shape[2], sight.window
    if window is not None and window < length:
        # The kernel's own operator, which also counts the tokens before a token's own; scaled_dot_product_attention has no window.
        rows = (tensor.transpose(1, 2) for tensor in (q, k[:, None], v[:, None]))
        attended: torch.Tensor = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 - there is no public way to it
            *rows,
            None,
            None,
            length,
            length,
            0.0,
            True,
            False,
            scale=sight.scale,
            window_size_left=window - 1,
            window_size_right=0,
        )[0]
        return attended.transpose(1, 2)
    # Left to itself PyTorch may choose a kernel that holds the scores, which no plan has counted.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return functional.scaled_dot_product_attention(
            q, k[:, None], v[:, None], is_causal=True, scale=sight.scale, enable_gqa=True
        )


def _weigh(query: torch.Tensor, key: torch.Tensor, sight: Sight, scratch: Scratch) -> torch.Tensor:
    """Return the causal attention weights [b, G * L, L], in scratch."""
    length = key.shape[1]
    weights = scratch.take(query.shape[0], query.shape[1], length)
    with scratch.frame():
        scores = scratch.take(*weights.shape)
        torch.baddbmm(scores, query, key.transpose(1, 2), beta=0, alpha=sight.scale, out=scores)
        unseen = scratch.take(length, length, dtype=torch.bool).fill_(True)
        if sight.window is None:
            unseen.triu_(1)
        else:
            unseen.tril_().triu_(1 - sight.window).logical_not_()
        scores.view(-1, length, length).masked_fill_(unseen, float("-inf"))
        return torch.softmax(scores, -1, out=weights)


class TreeAttention:
    """Attention of one pack: heads of nodes in, heads of nodes out.

    Packed heads are [N, H + 2K, D]: the queries of a node, its keys, its values. Gathered heads lie in one buffer of vectors: queries
    [K, R, G, L], then keys [K, R, L], then values [K, R, L], so that both kernels read them without another copy.
    """

    def __init__(self, pack: Pack, shape: ModelShape, kernel: Kernel) -> None:
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
        nodes = pack.paths.reshape(-1, 1)[pack.copies] * (2 * kv_heads)
        self._copied_heads = (nodes + torch.arange(2 * kv_heads, device=place.device)).flatten()

    def through(self, kernel: Kernel) -> "TreeAttention":
        """Return the attention of the same pack by another kernel; the plan of its gathers is shared."""
        other = copy(self)
        other._kernel = kernel  # noqa: SLF001 - one of ours
        return other

    def attend(self, packed: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> None:
        """Write the attended values [N, H * D] of packed heads [N, H + 2K, D] to `out`."""
        with scratch.frame():
            heads = self._gather(packed, scratch)
            attended = scratch.take(*self._query_shape)
            self._kernel.attend(heads, scratch, attended)
            rows = attended.view(-1, self._head_dim)
            torch.index_select(rows, 0, self._owned_queries, out=out.view(-1, self._head_dim))

    def differentiate(self, packed: torch.Tensor, grad: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> None:
        """Write the gradient of the packed heads, from that of the attended values, to `out`."""
        with scratch.frame():
            upstream = scratch.take(*self._query_shape).zero_()
            upstream.view(-1, self._head_dim).index_copy_(0, self._owned_queries, grad.view(-1, self._head_dim))
            heads = self._gather(packed, scratch)
            gathered = scratch.take(sum(self._sizes), self._head_dim)
            self._kernel.differentiate(heads, upstream, scratch, self._split(gathered))
            torch.index_select(gathered, 0, self._owned, out=out.view(-1, self._head_dim))
            if self._copied.numel():
                self._add_copies(gathered, scratch, out)

    def _add_copies(self, gathered: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> None:
        """Add what reached shared keys and values through other rows: in fp32, since a long shared beginning sums over all rows."""
        target = out[:, self._num_heads :]
        picked = scratch.take(self._copied.numel(), self._head_dim)
        torch.index_select(gathered, 0, self._copied, out=picked)
        total = scratch.take(*target.shape, dtype=torch.float32).copy_(target)
        wide = scratch.take(*picked.shape, dtype=torch.float32).copy_(picked)
        target.copy_(total.view(-1, self._head_dim).index_add_(0, self._copied_heads, wide).view(target.shape))

    def _gather(self, packed: torch.Tensor, scratch: Scratch) -> Heads:
        gathered = scratch.take(sum(self._sizes), self._head_dim)
        torch.index_select(packed.view(-1, self._head_dim), 0, self._gathered, out=gathered)
        return self._split(gathered)

    def _split(self, gathered: torch.Tensor) -> Heads:
        query, key, value = gathered.split_with_sizes(self._sizes)
        return Heads(query.view(self._query_shape), key.view(self._key_shape), value.view(self._key_shape))


def plan_attention(pack: Pack, shape: ModelShape, kernels: Mapping[str, Kernel]) -> dict[str, TreeAttention]:
    """Return the attention of a pack in each type of layer, planned once."""
    planned: dict[str, TreeAttention] = {}
    for kind, kernel in kernels.items():
        first = next(iter(planned.values()), None)
        planned[kind] = TreeAttention(pack, shape, kernel) if first is None else first.through(kernel)
    return planned


class Rotation:
    """Rotary positions of a pack in the rotate-half convention: x' = x cos + rotate(x) sin, in place."""

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor) -> None:
        """Keep cos and sin of the nodes' positions, [N, D] with equal halves."""
        self._half = cos.shape[-1] // 2
        self._cos = cos[:, None]
        self._sin = torch.cat((-sin[:, : self._half], sin[:, self._half :]), -1)[:, None]

    def rotate_(self, heads: torch.Tensor, scratch: Scratch) -> None:
        """Rotate heads [N, any, D] in place."""
        with scratch.frame():
            turned = self._turn(heads, scratch)
            heads.mul_(self._cos).add_(turned)

    def rotate_back_(self, heads: torch.Tensor, scratch: Scratch) -> None:
        """Rotate by the opposite angle, which is also how a gradient goes back through `rotate_`."""
        with scratch.frame():
            turned = self._turn(heads, scratch)
            heads.mul_(self._cos).sub_(turned)

    def _turn(self, heads: torch.Tensor, scratch: Scratch) -> torch.Tensor:
        turned = scratch.take(*heads.shape)
        turned[..., : self._half] = heads[..., self._half :]
        turned[..., self._half :] = heads[..., : self._half]
        return turned.mul_(self._sin)
