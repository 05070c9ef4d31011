"""What vLLM calls in place of its own LoRA path for the CPU."""

from typing import Any

import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from serve_svc.engine.cpu_lora.batch import Batch
from serve_svc.engine.cpu_lora.product import Factors, LayerProduct, Product


class GroupedWrapper(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM has no types here
    """vLLM's wrapper, but for linear layers: there the tokens of one adapter go through one product, and the base's through none.

    vLLM's own gives the base's tokens the weights of the last slot as soon as another token of the batch has an adapter.
    """

    def __init__(self, product: Product, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - handed on to vLLM
        """Compute with `product`; the rest is vLLM's."""
        super().__init__(*arguments, **options)
        self._product = product
        self._layers: dict[int, tuple[object, LayerProduct]] = {}
        self._batch: Batch | None = None

    @property
    def product_name(self) -> str:
        """What computes."""
        return self._product.name

    def update_metadata(
        self,
        mapping: LoRAMapping,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Take the slots of the next step's tokens."""
        super().update_metadata(mapping, lora_index_to_id, max_loras, vocab_size, **options)
        self._batch = Batch.from_slots(self.token_lora_indices.numpy())

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **options: Any,  # noqa: ANN401 - vLLM's signature
    ) -> None:
        """Add the adapters of this layer to `y`, in place."""
        batch = self._batch
        if batch is None or not batch.slot_set:
            return
        x, rows = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        is_known = scale == 1.0 and buffer is None and not options and len(x) == len(rows) == batch.num_rows
        if not (is_known and _is_plain(x) and _is_plain(rows)):
            # Better dead than another adapter's weights: vLLM's own way would be wrong for the base's tokens.
            raise ValueError(
                f"{len(rows)} rows of {rows.dtype} for {batch.num_rows} tokens, scale {scale}: vLLM has changed"
            )
        self._open_layer(lora_a_stacked, lora_b_stacked, output_slices).add(batch, x, rows)

    def _open_layer(
        self, a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...], widths: tuple[int, ...]
    ) -> LayerProduct:
        # vLLM's layers keep their tuples; holding one here keeps its id from being given to another.
        known = self._layers.get(id(a))
        if known is None:
            known = self._layers[id(a)] = (a, self._product.open_layer(Factors(a, b, widths)))
        return known[1]


def _is_plain(rows: torch.Tensor) -> bool:
    return rows.dtype == torch.bfloat16 and rows.stride(-1) == 1
