"""Cross-entropy over the vocabulary, at learned tokens alone and in blocks: full logits never exist.

With p = softmax(n Eᵀ) and target t: loss = -log p_t, and its derivative by n is (p - onehot_t) E.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from trainer_svc.worker.packing import Pack
from trainer_svc.worker.scratch import Scratch


@dataclass(frozen=True, slots=True)
class _Block:
    """Some of the learned tokens: their exponentials e^(logit - max) and what these add up to, both fp32."""

    place: slice
    logits: torch.Tensor
    exponentials: torch.Tensor
    totals: torch.Tensor
    loss: torch.Tensor


class Loss:
    """The loss of one head [V, h], computed `block_tokens` learned tokens at a time: smaller blocks read the head more often."""

    def __init__(self, head: torch.Tensor, block_tokens: int) -> None:
        """Keep the frozen head."""
        self._head = head
        self._block_tokens = block_tokens

    def sum(self, states: torch.Tensor, pack: Pack, scratch: Scratch) -> torch.Tensor:
        """Return the summed loss of the final states [M, h] at a pack's sources, a scalar in fp32."""
        return torch.stack([block.loss for block in self._cut_blocks(states, pack, scratch)]).sum()

    def differentiate(
        self, states: torch.Tensor, pack: Pack, scale: float, scratch: Scratch, out: torch.Tensor
    ) -> torch.Tensor:
        """As `sum`; the gradient by the states of `scale` times that sum goes to `out`."""
        losses = []
        for block in self._cut_blocks(states, pack, scratch):
            losses.append(block.loss)
            targets, weights = pack.targets[block.place, None], pack.weights[block.place, None]
            probabilities = block.exponentials.div_(block.totals)
            probabilities.scatter_add_(1, targets, torch.full_like(weights, -1.0))
            block.logits.copy_(probabilities.mul_(weights * scale))
            torch.mm(block.logits, self._head, out=out[block.place])
        return torch.stack(losses).sum()

    def _cut_blocks(self, states: torch.Tensor, pack: Pack, scratch: Scratch) -> Iterator[_Block]:
        for begin in range(0, states.shape[0], self._block_tokens):
            place = slice(begin, min(begin + self._block_tokens, states.shape[0]))
            with scratch.frame():
                size = (place.stop - begin, self._head.shape[0])
                logits = torch.mm(states[place], self._head.T, out=scratch.take(*size))
                scores = scratch.take(*size, dtype=torch.float32).copy_(logits)
                scores.sub_(scores.amax(1, keepdim=True))
                picked = scores.gather(1, pack.targets[place, None])
                totals = scores.exp_().sum(1, keepdim=True)
                loss = ((totals.log() - picked) * pack.weights[place, None]).sum()
                yield _Block(place, logits, scores, totals, loss)
