"""The memory of what a forward pass keeps for the backward pass, taken once for the largest pack of a job.

Nothing is allocated per step, so nothing fragments, and what a job takes is what was planned. With gradient checkpointing the layers
share one slot and keep their inputs alone.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch

from adaptory.core.base_shape import BaseShape


@dataclass(frozen=True, slots=True)
class Kept:
    """What one layer keeps, each [N, width]: 8h + 4i + 4kv bytes a node, and 14 bytes for each rank.

    `plain_heads` are the heads before their norms; without head norms (all but Qwen3) they are `heads` itself.
    """

    x: torch.Tensor
    heads: torch.Tensor
    plain_heads: torch.Tensor
    attended: torch.Tensor
    middle: torch.Tensor
    gate_up: torch.Tensor
    lows: dict[str, torch.Tensor]


class Tape:
    """Slots for the layers of one decoder; `num_slots` is that of its layers, or 1 with checkpointing."""

    def __init__(
        self, shape: BaseShape, *, rank: int, max_nodes: int, num_slots: int, has_head_norms: bool, device: torch.device
    ) -> None:
        """Take the memory."""
        heads = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
        self._widths = {
            "heads": heads,
            "plain_heads": heads if has_head_norms else 0,
            "attended": shape.num_heads * shape.head_dim,
            "middle": shape.hidden_size,
            "gate_up": 2 * shape.intermediate_size,
            "qkv": 3 * rank,
            "output": rank,
            "gate_up_low": 2 * rank,
            "down": rank,
        }
        self._hidden_size = shape.hidden_size
        # One more: the output of the last layer.
        self._inputs = torch.empty(
            shape.num_layers + 1, max_nodes * shape.hidden_size, dtype=torch.bfloat16, device=device
        )
        self._slots = torch.empty(
            num_slots, max_nodes * sum(self._widths.values()), dtype=torch.bfloat16, device=device
        )

    @property
    def shares_slots(self) -> bool:
        """Whether a layer's slot is overwritten by the next one's."""
        return len(self._slots) == 1

    def input(self, layer: int, num_nodes: int) -> torch.Tensor:
        """Return the input of a layer; behind the last, its output."""
        return self._inputs[layer, : num_nodes * self._hidden_size].view(num_nodes, -1)

    def open(self, layer: int, num_nodes: int) -> Kept:
        """Return the slot of a layer, cut for a pack."""
        slot = self._slots[layer % len(self._slots)]
        ends = accumulate(width * num_nodes for width in self._widths.values())
        parts = {
            name: slot[end - width * num_nodes : end].view(num_nodes, width)
            for (name, width), end in zip(self._widths.items(), ends, strict=True)
        }
        return Kept(
            x=self.input(layer, num_nodes),
            heads=parts["heads"],
            plain_heads=parts["plain_heads"] if self._widths["plain_heads"] else parts["heads"],
            attended=parts["attended"],
            middle=parts["middle"],
            gate_up=parts["gate_up"],
            lows={
                "qkv": parts["qkv"],
                "output": parts["output"],
                "gate_up": parts["gate_up_low"],
                "down": parts["down"],
            },
        )
