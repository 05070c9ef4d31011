"""The memory of what a forward pass keeps for the backward pass, taken once for the largest pack of a job.

Nothing is allocated per step, so nothing fragments, and what a job takes is what was planned: the widths are `memory.layout`'s. Each
layer has a *record* of its own; what is computed again lies in one slot that all layers share. Offloaded, two records are on the
device, the others in a store.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch

from trainer_svc.memory.layout import TapeWidths
from trainer_svc.worker.offload import OffloadStore

_NUM_STAGED = 2


@dataclass(frozen=True, slots=True)
class Kept:
    """What one layer keeps, each [N, width].

    `plain_heads` are the heads before their norms; without head norms they are `heads` itself. `attention_output` and `mlp_output`
    are what goes into the norms behind attention and MLP; without these they are `middle`, which nobody reads as such.
    """

    x: torch.Tensor
    heads: torch.Tensor
    plain_heads: torch.Tensor
    attended: torch.Tensor
    attention_output: torch.Tensor
    middle: torch.Tensor
    gate_up: torch.Tensor
    mlp_output: torch.Tensor
    lows: dict[str, torch.Tensor]


class Tape:
    """Records for the layers of one decoder."""

    def __init__(
        self,
        widths: TapeWidths,
        *,
        num_layers: int,
        max_nodes: int,
        device: torch.device,
        store: OffloadStore | None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """Take the memory; with a store, of two records alone."""
        self._widths = widths
        self._store = store
        self._last = num_layers - 1
        num_records = num_layers if store is None else min(_NUM_STAGED, num_layers)

        def take(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        self._records = take(num_records, max_nodes * sum(widths.record.values()))
        self._shared = take(max_nodes * sum(widths.shared.values()))
        self._output = take(max_nodes * widths.record["x"])

    @property
    def widths(self) -> TapeWidths:
        """Elements of a node, by what they are."""
        return self._widths

    def input(self, layer: int, num_nodes: int) -> torch.Tensor:
        """Return the input of a layer; behind the last, its output."""
        width = self._widths.record["x"]
        memory = self._output if layer > self._last else self._record(layer)
        return memory[: num_nodes * width].view(num_nodes, width)

    def open(self, layer: int, num_nodes: int) -> Kept:
        """Return what a layer keeps, cut for a pack."""
        parts = _cut(self._record(layer), self._widths.record, num_nodes)
        parts |= _cut(self._shared, self._widths.shared, num_nodes)
        return Kept(
            x=parts["x"],
            heads=parts["heads"],
            plain_heads=parts.get("plain_heads", parts["heads"]),
            attended=parts["attended"],
            attention_output=parts.get("attention_output", parts["middle"]),
            middle=parts["middle"],
            gate_up=parts["gate_up"],
            mlp_output=parts.get("mlp_output", parts["middle"]),
            lows={
                "qkv": parts["low_qkv"],
                "output": parts["low_output"],
                "gate_up": parts["low_gate_up"],
                "down": parts["low_down"],
            },
        )

    def close(self, layer: int, num_nodes: int) -> None:
        """Offload the record of a layer whose forward pass is over; the last ones stay where they are."""
        if self._store is not None and layer <= self._last - _NUM_STAGED:
            self._store.put(layer, self._used(layer, num_nodes))

    def reopen(self, layer: int, num_nodes: int) -> Kept:
        """Return what a layer kept, brought back where it was offloaded."""
        if self._store is not None and layer <= self._last - _NUM_STAGED:
            self._store.get(layer, self._used(layer, num_nodes))
        return self.open(layer, num_nodes)

    def _record(self, layer: int) -> torch.Tensor:
        return self._records[layer % len(self._records)]

    def _used(self, layer: int, num_nodes: int) -> torch.Tensor:
        return self._record(layer)[: num_nodes * sum(self._widths.record.values())]


def _cut(memory: torch.Tensor, widths: Mapping[str, int], num_nodes: int) -> dict[str, torch.Tensor]:
    ends = accumulate(width * num_nodes for width in widths.values())
    return {
        name: memory[end - width * num_nodes : end].view(num_nodes, width)
        for (name, width), end in zip(widths.items(), ends, strict=True)
    }
