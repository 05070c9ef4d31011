"""Whether a product computes what vLLM's own path does, within the rounding of bf16."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from serve_svc.engine.cpu_lora.product import Product
from serve_svc.engine.cpu_lora.wrapper import GroupedWrapper

_NUM_SLOTS = 4
# Three slices, one of them longer, as q, k and v; once multiples of what a kernel computes at once, and once not.
_SHAPES = ((96, (128, 64, 64)), (72, (80, 24, 24)))
_MAX_ROWS = 96
_VOCABULARY = 100
# Rounded to 8 bits thrice, the sums before it in another order: two steps of the larger of output and delta.
_STEPS = 2.0
_STEP = 2.0**-7


class Differs(Exception):
    """A product does not agree with vLLM; the text says where."""


@dataclass(frozen=True, slots=True)
class Case:
    """Slots of the rows of a step, -1 for the base."""

    name: str
    slots: tuple[int, ...]
    is_prefill: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """One linear layer's slots, with adapters of several ranks in them."""

    a: tuple[torch.Tensor, ...]
    b: tuple[torch.Tensor, ...]
    widths: tuple[int, ...]

    @classmethod
    def filled(
        cls, generator: torch.Generator, max_rank: int, num_in: int, widths: tuple[int, ...], num_slots: int
    ) -> "Layer":
        """Fill every slot: the ranks go from 1 to `max_rank`, the slices of one adapter share theirs."""
        layer = cls(
            tuple(torch.zeros(num_slots, 1, max_rank, num_in, dtype=torch.bfloat16) for _ in widths),
            tuple(torch.zeros(num_slots, 1, width, max_rank, dtype=torch.bfloat16) for width in widths),
            widths,
        )
        for slot in range(num_slots):
            layer.fill(slot, 1 + slot * (max_rank - 1) // max(num_slots - 1, 1), generator)
        return layer

    def fill(self, slot: int, rank: int, generator: torch.Generator) -> None:
        """Put another adapter into a slot, as vLLM does: in place, zeros beyond its rank."""
        for a, b in zip(self.a, self.b, strict=True):
            a[slot] = 0
            b[slot] = 0
            a[slot, 0, :rank].copy_(torch.randn(rank, a.shape[3], generator=generator))
            b[slot, 0, :, :rank].copy_(torch.randn(b.shape[2], rank, generator=generator))


def check_product(product: Product, max_rank: int) -> None:
    """Compare on a few batches of every kind; takes a fraction of a second. Raises Differs, or what a changed vLLM raises."""
    generator = torch.Generator().manual_seed(max_rank)
    comparison = Comparison(product, _NUM_SLOTS, _MAX_ROWS)
    for num_in, widths in _SHAPES:
        layer = Layer.filled(generator, max_rank, num_in, widths, _NUM_SLOTS)
        for case in _cases():
            comparison.check(layer, case, generator)
        layer.fill(1, max_rank, generator)
        comparison.check(layer, Case("a changed slot", (1, 0, 1), is_prefill=False), generator)


class Comparison:
    """A product and vLLM's own wrapper, side by side."""

    def __init__(self, product: Product, num_slots: int, max_rows: int) -> None:
        """Build both wrappers."""
        self._num_slots = num_slots
        self._ours = GroupedWrapper(product, max_rows, max_rows, torch.device("cpu"))
        self._own = PunicaWrapperCPU(max_rows, max_rows, torch.device("cpu"))

    def check(self, layer: Layer, case: Case, generator: torch.Generator) -> None:
        """Compute one step of one layer; raises Differs."""
        rows = len(case.slots)
        x = torch.randn(rows, layer.a[0].shape[3], generator=generator).to(torch.bfloat16)
        before = torch.randn(rows, sum(layer.widths), generator=generator).to(torch.bfloat16)
        ours, own = before.clone(), before.clone()
        ids: list[int | None] = [slot + 1 for slot in range(self._num_slots)]
        mapping = tuple(slot + 1 for slot in case.slots)
        for wrapper, y in ((self._ours, ours), (self._own, own)):
            wrapper.update_metadata(
                LoRAMapping(mapping, mapping, case.is_prefill), ids, self._num_slots + 1, _VOCABULARY
            )
            wrapper.add_lora_linear(y, x, layer.a, layer.b, 1.0, layer.widths)
        is_base = torch.tensor(case.slots) < 0
        if not torch.equal(ours[is_base], before[is_base]):
            raise Differs(f"{case.name}: tokens of the base are changed")
        _compare(case, ours[~is_base].float(), own[~is_base].float(), before[~is_base].float())


def _compare(case: Case, ours: torch.Tensor, own: torch.Tensor, before: torch.Tensor) -> None:
    # What is rounded is the product with A, too: a delta may be off by a step of the largest of its row.
    scale = torch.maximum(own.abs(), (own - before).abs().amax(dim=-1, keepdim=True)) if len(own) else own
    too_far = ~((ours - own).abs() <= _STEPS * _STEP * scale)
    if too_far.any():
        row, column = too_far.nonzero()[0].tolist()
        raise Differs(f"{case.name}: {ours[row, column]:.6g} for {own[row, column]:.6g} in row {row}, column {column}")


def _cases() -> Iterator[Case]:
    every = tuple(range(_NUM_SLOTS))
    yield Case("one token", (2,), is_prefill=False)
    yield Case("decoding, one adapter", (1,) * 5, is_prefill=False)
    yield Case("decoding, every adapter", every * 4, is_prefill=False)
    yield Case("decoding, with the base", (-1, *every, -1, *every), is_prefill=False)
    yield Case("prefill, one adapter", (3,) * 71, is_prefill=True)
    yield Case(
        "prefill, every adapter and the base", (0,) * 11 + (-1,) * 3 + (1,) * 17 + (2,) * 9 + (3,), is_prefill=True
    )
    in_turns = (0,) * 20 + (1,) * 17 + (0,) * 3 + (1,) * 2 + (0,) * 18 + (1,) * 30
    yield Case("prompts of two adapters in turns", in_turns, is_prefill=True)
    yield Case("prefill beside decoding", (0, 2, -1, 1) + (3,) * 30 + (0,) * 9, is_prefill=True)
    yield Case("the base alone", (-1,) * 6, is_prefill=True)
