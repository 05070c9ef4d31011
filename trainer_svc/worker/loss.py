"""Cross-entropy over the vocabulary, at learned tokens alone and in blocks: full logits never exist.

With p = softmax(n Eᵀ) and target t: loss = -log p_t, and its derivative by n is (p - onehot_t) E.
"""

from collections.abc import Iterator

import torch

# Learned tokens of one block: [128, 49152] logits are 25 MB in fp32. Smaller blocks would read the head too often.
BLOCK_TOKENS = 128


def sum_losses(states: torch.Tensor, targets: torch.Tensor, head: torch.Tensor) -> float:
    """Return the summed loss of M final states [M, h] against targets [M] under the head [V, h]."""
    total = 0.0
    for block, wanted in _cut_blocks(states, targets):
        log_probabilities = torch.log_softmax(block @ head.T, -1, dtype=torch.float32)
        total -= log_probabilities.gather(1, wanted[:, None]).sum().item()
    return total


def sum_losses_with_gradient(
    states: torch.Tensor, targets: torch.Tensor, head: torch.Tensor, weight: float
) -> tuple[float, torch.Tensor]:
    """As `sum_losses`, and the gradient by the states of `weight` times that sum."""
    total = 0.0
    grads = []
    for block, wanted in _cut_blocks(states, targets):
        scores = torch.log_softmax(block @ head.T, -1, dtype=torch.float32)
        picked = scores.gather(1, wanted[:, None])
        total -= picked.sum().item()
        # Now the probabilities, less one at the target.
        scores.exp_().scatter_add_(1, wanted[:, None], -torch.ones_like(picked))
        grads.append(scores.mul_(weight).to(block.dtype) @ head)
    return total, torch.cat(grads)


def _cut_blocks(states: torch.Tensor, targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    num_blocks = -(-targets.numel() // BLOCK_TOKENS)
    return zip(states.chunk(num_blocks), targets.chunk(num_blocks), strict=True)
