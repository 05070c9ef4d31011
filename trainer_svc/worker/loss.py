"""Cross-entropy over the vocabulary, at learned tokens alone and in blocks: full logits never exist.

With p = softmax(n Eᵀ) and target t: loss = -log p_t, and its derivative by n is (p - onehot_t) E.
"""

from collections.abc import Iterator

import torch

from trainer_svc.worker.packing import Pack

# Learned tokens of one block: [128, 49152] logits are 25 MB in fp32. Smaller blocks would read the head too often.
BLOCK_TOKENS = 128


def sum_losses(states: torch.Tensor, pack: Pack, head: torch.Tensor) -> float:
    """Return the summed loss of the final states [M, h] at a pack's sources, under the head [V, h]."""
    total = 0.0
    for block, targets, weights in _cut_blocks(states, pack):
        log_probabilities = torch.log_softmax(block @ head.T, -1, dtype=torch.float32)
        total -= (log_probabilities.gather(1, targets) * weights).sum().item()
    return total


def sum_losses_with_gradient(
    states: torch.Tensor, pack: Pack, head: torch.Tensor, scale: float
) -> tuple[float, torch.Tensor]:
    """As `sum_losses`, and the gradient by the states of `scale` times that sum."""
    total = 0.0
    grads = []
    for block, targets, weights in _cut_blocks(states, pack):
        scores = torch.log_softmax(block @ head.T, -1, dtype=torch.float32)
        picked = scores.gather(1, targets)
        total -= (picked * weights).sum().item()
        # Now the probabilities, less one at the target.
        scores.exp_().scatter_add_(1, targets, -torch.ones_like(picked))
        grads.append(scores.mul_(weights * scale).to(block.dtype) @ head)
    return total, torch.cat(grads)


def _cut_blocks(states: torch.Tensor, pack: Pack) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield states, targets [m, 1] and weights [m, 1] of each block."""
    for begin in range(0, states.shape[0], BLOCK_TOKENS):
        block = slice(begin, begin + BLOCK_TOKENS)
        yield states[block], pack.targets[block, None], pack.weights[block, None]
