"""How the decoder layers of a base compute, as data: in what Llama and its relatives, and Gemma 3, differ besides their sizes.

Read once from a config. Owns the table of families; sizes are `memory.shape`'s, and each difference is computed where its name says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from adaptory.core.errors import InvalidRequest
from trainer_svc.worker.activation import Activation, Silu, TanhGelu
from trainer_svc.worker.normalisation import Norm, OffsetRmsNorm, RmsNorm

# Layers whose tokens see all before them, and those whose tokens see the nearest alone; transformers' names.
FULL, SLIDING = "full_attention", "sliding_attention"
# cos and sin, [1, N, D], of positions [1, N] in a layer of a type, in the dtype of the first tensor.
Rotary = Callable[[torch.Tensor, torch.Tensor, str], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Sight:
    """How tokens see those before them: products are scaled by `scale`; of a `window`, its own included, or of all."""

    scale: float
    window: int | None = None


@dataclass(frozen=True, slots=True)
class NormNames:
    """Where a layer's tensors have its norms: before attention and MLP and, where there are any, behind each."""

    attention: str = "input_layernorm"
    mlp: str = "post_attention_layernorm"
    attention_output: str = ""
    mlp_output: str = ""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What one base computes; `sights` are by type of layer, `layer_types` has that of each layer in order.

    Embeddings are multiplied by `embedding_scale`, which is rounded to their own dtype first.
    """

    norm: Callable[[torch.Tensor, float], Norm]
    norm_names: NormNames
    activation: Activation
    sights: Mapping[str, Sight]
    layer_types: tuple[str, ...]
    open_rotary: Callable[[PretrainedConfig, torch.device], Rotary]
    embedding_scale: float | None = None

    @classmethod
    def of(cls, config: PretrainedConfig, head_dim: int) -> "Architecture":
        """Return the architecture of a config. Raises InvalidRequest where it has a variant that no layer here computes."""
        return _FAMILIES.get(config.model_type, _read_llama)(config, head_dim)


def _read_llama(config: PretrainedConfig, head_dim: int) -> Architecture:
    return Architecture(
        norm=RmsNorm,
        norm_names=NormNames(),
        activation=Silu(),
        sights={FULL: Sight(head_dim**-0.5)},
        layer_types=(FULL,) * config.num_hidden_layers,
        open_rotary=_open_llama_rotary,
    )


def _read_gemma3(config: PretrainedConfig, head_dim: int) -> Architecture:  # noqa: ARG001 - it says its scale itself
    _refuse_variants(config)
    scale = config.query_pre_attn_scalar**-0.5
    sights = {FULL: Sight(scale), SLIDING: Sight(scale, config.sliding_window)}
    layer_types = tuple(config.layer_types)
    return Architecture(
        norm=OffsetRmsNorm,
        norm_names=NormNames(
            mlp="pre_feedforward_layernorm",
            attention_output="post_attention_layernorm",
            mlp_output="post_feedforward_layernorm",
        ),
        activation=TanhGelu(),
        sights={kind: sight for kind, sight in sights.items() if kind in layer_types},
        layer_types=layer_types,
        open_rotary=_open_gemma3_rotary,
        embedding_scale=config.hidden_size**0.5,
    )


_FAMILIES = {"gemma3_text": _read_gemma3}


def _refuse_variants(config: PretrainedConfig) -> None:
    known = {
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
    }
    for key, value in known.items():
        found = getattr(config, key, value)
        if found != value:
            raise InvalidRequest.of_field(f"base.{key}", f"is {found!r}; of Gemma 3 only {value!r} can be trained")


def _open_llama_rotary(config: PretrainedConfig, device: torch.device) -> Rotary:
    # One formula for the whole family, scaled variants included.
    rotary = LlamaRotaryEmbedding(config).to(device)
    return lambda like, positions, _: rotary(like, positions)


def _open_gemma3_rotary(config: PretrainedConfig, device: torch.device) -> Rotary:
    rotary: Rotary = Gemma3RotaryEmbedding(config).to(device)
    return rotary
