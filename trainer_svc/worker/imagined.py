"""What a simulated step reads and writes: weights, rows and stores that have sizes and no values."""

from collections.abc import Mapping, Sequence

import torch
from transformers import AutoConfig

from adaptory.core.prompting import RenderedRow
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, Home, Techniques
from trainer_svc.worker.base import FrozenBase, LayerLoader, build_base
from trainer_svc.worker.compute import dtype_of
from trainer_svc.worker.offload import OffloadStore
from trainer_svc.worker.weight_files import ComputedSource

_TOKEN, _OTHER_TOKENS = 1, 2


def imagine_base(config: Mapping[str, object], techniques: Techniques, device: torch.device) -> FrozenBase:
    """Return the base of a parsed config.json, held as the techniques say. Raises InvalidRequest when the worker has no such base."""
    shape = ModelShape.from_config(config)
    files = ComputedSource(_ImaginedFiles(shape, device), dtype_of(techniques.compute))
    is_nf4 = techniques.base is BasePrecision.NF4
    store = open_nowhere(techniques.frozen_home)
    loader = LayerLoader(files, techniques.base, store if is_nf4 else None, streams=store is not None and not is_nf4)
    values = {key: value for key, value in config.items() if key != "model_type"}
    return build_base(files, AutoConfig.for_model(shape.model_type, **values), shape, loader)


def imagine_rows(lengths: Sequence[int], shared_tokens: int) -> list[RenderedRow]:
    """Return rows of these many inputs, all learned, of which the first tokens are the same."""
    rows = []
    for place, length in enumerate(lengths):
        shared = min(shared_tokens, length)
        own = [_OTHER_TOKENS + place] * (length + 1 - shared)
        ids = (*[_TOKEN] * shared, *own)
        rows.append(RenderedRow(ids, tuple([False] * shared + [True] * len(own))))
    return rows


def open_nowhere(home: Home) -> OffloadStore | None:
    """Return a store that keeps nothing, None for the device itself."""
    return None if home is Home.DEVICE else _Nowhere()


def list_tensors(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Return the names and sizes of the tensors of a base the worker has, in the order of its layers."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    module_sizes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (shape.query_size, hidden),
        "self_attn.k_proj.weight": (shape.kv_size, hidden),
        "self_attn.v_proj.weight": (shape.kv_size, hidden),
        "self_attn.o_proj.weight": (hidden, shape.query_size),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    if shape.has_output_norms:
        module_sizes |= {f"{side}_feedforward_layernorm.weight": (hidden,) for side in ("pre", "post")}
    if shape.has_head_norms:
        module_sizes |= {f"self_attn.{name}_norm.weight": (shape.head_dim,) for name in "qk"}
    if shape.has_qkv_bias:
        biases = {"q": shape.query_size, "k": shape.kv_size, "v": shape.kv_size}
        module_sizes |= {f"self_attn.{name}_proj.bias": (size,) for name, size in biases.items()}
    table = (shape.vocab_size, hidden)
    head = {} if shape.has_tied_embeddings else {"lm_head.weight": table}
    layers = {
        f"model.layers.{layer}.{name}": size for layer in range(shape.num_layers) for name, size in module_sizes.items()
    }
    return {"model.embed_tokens.weight": table, **layers, "model.norm.weight": (hidden,), **head}


class _Nowhere:
    """A store for tensors that have no values."""

    def put(self, place: int, tensor: torch.Tensor) -> None:
        """Keep nothing."""

    def get(self, place: int, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - one place is as empty as another
        """Return what was given."""
        return out


class _ImaginedFiles:
    """The tensors of a shape (a `WeightSource`)."""

    def __init__(self, shape: ModelShape, device: torch.device) -> None:
        self._device = device
        self._sizes = list_tensors(shape)

    def shape_of(self, name: str) -> tuple[int, ...]:
        return self._sizes[name]

    def stacked_shape(self, names: list[str]) -> tuple[int, ...]:
        sizes = [self._sizes[name] for name in names]
        return (sum(size[0] for size in sizes), *sizes[0][1:])

    def read(self, name: str) -> torch.Tensor:
        return self.read_stacked([name])

    def read_if_there(self, name: str) -> torch.Tensor | None:
        return self.read(name) if name in self._sizes else None

    def read_stacked(self, names: list[str]) -> torch.Tensor:
        return torch.empty(self.stacked_shape(names), dtype=torch.bfloat16, device=self._device)

    def read_into(self, names: list[str], out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - no values
        return out
