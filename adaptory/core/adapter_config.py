"""Parses PEFT's `adapter_config.json` strictly: only plain LoRA, every field known, every type checked.

Owns what the config means: rank and scale of each module, and which modules it names; weights it leaves to
`adapter_check`. A field nobody here knows is refused: vLLM ignores such fields, so what a later PEFT means by
them would be served wrongly in silence.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from adaptory.core.errors import AdapterRejected
from adaptory.core.safetensors_header import quote
from adaptory.core.strict_json import parse_object

# Fields that change nothing about the served result; they say how the adapter was made.
_IGNORED = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "eva_config",
        "inference_mode",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
    }
)
# Features that vLLM refuses or, worse, leaves out in silence; each must be off (null, false or empty).
_MUST_BE_OFF = {
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow routing",
    "corda_config": "CorDA initialisation",
    "ensure_weight_tying": "tied trained embeddings",
    "fan_in_fan_out": "transposed weights",
    "kasa_config": "KaSA",
    "layer_replication": "layer replication",
    "loftq_config": "LoftQ initialisation",
    "lora_bias": "a bias of its own",
    "lora_ga_config": "LoRA-GA initialisation",
    "megatron_config": "Megatron layers",
    "modules_to_save": "fully trained modules",
    "monteclora_config": "MonteCLoRA",
    "target_parameters": "LoRA on bare parameters",
    "trainable_token_indices": "trained tokens",
    "use_bdlora": "block-diagonal LoRA",
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "velora_config": "VeLoRA",
}
# Initialisations that leave the base as it is; PiSSA, OLoRA, CorDA and LoftQ change it: convert those first.
_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
_READ = frozenset(
    {
        "alpha_pattern",
        "bias",
        "exclude_modules",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
KNOWN_FIELDS = _IGNORED | _MUST_BE_OFF.keys() | _READ
_REQUIRED = ("r", "lora_alpha", "target_modules")
_OFF: tuple[object, ...] = (None, False, {}, [])
_MAX_ALPHA = 1e6

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What a plain LoRA's config says; patterns map the end of a module's name to a value, the first wins."""

    rank: int
    alpha: float
    is_rank_stabilised: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    target_modules: frozenset[str]
    exclude_modules: frozenset[str]
    layers: frozenset[int] | None

    def rank_of(self, module: str) -> int:
        """Rank of one module, by its full name."""
        return _first_match(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """Factor of BA in one module: alpha / r, or alpha / sqrt(r) if rank-stabilised (arXiv:2312.03732)."""
        alpha, rank = _first_match(self.alpha_pattern, module, self.alpha), self.rank_of(module)
        return alpha / math.sqrt(rank) if self.is_rank_stabilised else alpha / rank

    @property
    def max_rank(self) -> int:
        """The largest rank the config mentions, used or not: vLLM compares this one with its cap."""
        return max(self.rank, *self.rank_pattern.values()) if self.rank_pattern else self.rank

    def select_modules(self, modules: Iterable[str]) -> set[str]:
        """Return the full names among `modules` which this config trains, by PEFT's rule for lists of names.

        Raises:
            AdapterRejected: CONFIG_INVALID where a target or pattern names no module of the base.
        """
        suffixes = {module: _suffixes(module) for module in modules}
        self._check_names_exist({suffix for ends in suffixes.values() for suffix in ends})
        return {module for module, ends in suffixes.items() if self._is_target(module, ends)}

    def _is_target(self, module: str, suffixes: tuple[str, ...]) -> bool:
        if not self.exclude_modules.isdisjoint(suffixes):
            return False
        # PEFT takes a full name as it is; `layers_to_transform` narrows only names matched by their end.
        if module in self.target_modules:
            return True
        is_layer_trained = self.layers is None or int(module.split(".")[2]) in self.layers
        return is_layer_trained and not self.target_modules.isdisjoint(suffixes)

    def _check_names_exist(self, known: set[str]) -> None:
        for field, names in (
            ("target_modules", self.target_modules),
            ("rank_pattern", self.rank_pattern.keys()),
            ("alpha_pattern", self.alpha_pattern.keys()),
        ):
            if unknown := sorted(set(names) - known):
                raise _invalid(
                    f"{field} names {quote(unknown[0])}, which is no linear layer of the base's decoder; "
                    "embeddings, output head and other models' modules cannot be adapted"
                )


def parse_adapter_config(raw: bytes) -> AdapterConfig:
    """Parse the bytes of `adapter_config.json`.

    Raises:
        AdapterRejected: CONFIG_INVALID, or UNSUPPORTED_FEATURE with the feature's name.
    """
    try:
        fields = parse_object(raw)
    except ValueError as err:
        raise _invalid(f"is not strict JSON: {ascii(str(err))[1:-1][:200]}") from err
    _check_features(fields)
    if missing := [key for key in _REQUIRED if key not in fields]:
        raise _invalid(f"lacks {', '.join(missing)}")
    return AdapterConfig(
        rank=_positive_int("r", fields["r"]),
        alpha=_positive_number("lora_alpha", fields["lora_alpha"]),
        is_rank_stabilised=_flag("use_rslora", fields.get("use_rslora")),
        rank_pattern={key: _positive_int("rank_pattern", rank) for key, rank in _pattern(fields, "rank_pattern")},
        alpha_pattern={
            key: _positive_number("alpha_pattern", alpha) for key, alpha in _pattern(fields, "alpha_pattern")
        },
        target_modules=_names("target_modules", fields["target_modules"]),
        exclude_modules=_names("exclude_modules", fields.get("exclude_modules") or []),
        layers=_layers(fields.get("layers_to_transform")),
    )


def _check_features(fields: Mapping[str, object]) -> None:
    if (peft_type := fields.get("peft_type")) != "LORA":
        raise _unsupported("peft_type", f"is of type {quote(str(peft_type))}, not LORA")
    if fields.get("task_type") not in (None, "CAUSAL_LM"):
        raise _unsupported("task_type", f"was trained for {quote(str(fields['task_type']))}, not CAUSAL_LM")
    if fields.get("bias", "none") != "none":
        raise _unsupported("bias", "trains the base's biases")
    for key, feature in _MUST_BE_OFF.items():
        if not is_off(fields.get(key)):
            raise _unsupported(key, f"uses {feature}")
    init = fields.get("init_lora_weights")
    if not _is_one_of(init, _PLAIN_INITS):
        raise _unsupported("init_lora_weights", f"was initialised by {quote(str(init))}, which changes the base")
    if fields.get("layers_pattern") not in (None, "", [], "layers", ["layers"]):
        raise _unsupported("layers_pattern", "selects layers by a pattern of its own")
    if unknown := sorted(fields.keys() - KNOWN_FIELDS):
        raise _unsupported(unknown[0], "has a field that no known rule covers")


def is_off(value: object) -> bool:
    """Tell whether a field's value switches its feature off, as null, false and what is empty do."""
    return _is_one_of(value, _OFF)


def _is_one_of(value: object, allowed: tuple[object, ...]) -> bool:
    # 0 == False in Python: compare types too, so that a number never passes for a flag.
    return any(type(value) is type(item) and value == item for item in allowed)


def _flag(key: str, value: object) -> bool:
    if not _is_one_of(value, (True, False, None)):
        raise _invalid(f"{key} is not true or false")
    return value is True


def _positive_int(key: str, value: object) -> int:
    if type(value) is not int or value <= 0:
        raise _invalid(f"{key} holds {quote(str(value))}; a positive whole number is needed")
    return value


def _positive_number(key: str, value: object) -> float:
    # The parser has refused NaN and infinity already; a huge integer still overflows a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_ALPHA:
        raise _invalid(f"{key} holds {quote(str(value))}; a number above 0 and at most {_MAX_ALPHA:.0e} is needed")
    return float(value)


def _pattern(fields: Mapping[str, object], key: str) -> Iterable[tuple[str, object]]:
    value = {} if fields.get(key) is None else fields[key]
    if not isinstance(value, dict):
        raise _invalid(f"{key} must map the ends of module names to numbers")
    return value.items()


def _names(key: str, value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _invalid(f"{key} must be a list of module names; write a pattern out as the names it matches")
    return frozenset(value)


def _layers(value: object) -> frozenset[int] | None:
    layers = [value] if type(value) is int else value
    if layers is None or layers == []:
        return None
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise _invalid("layers_to_transform must be a list of layer numbers")
    return frozenset(layers)


def _suffixes(module: str) -> tuple[str, ...]:
    """Return the ends of a dotted name at its dots: a.b.c gives a.b.c, b.c and c."""
    parts = module.split(".")
    return tuple(".".join(parts[start:]) for start in range(len(parts)))


def _first_match(pattern: Mapping[str, _Value], module: str, default: _Value) -> _Value:
    # PEFT and vLLM read a key as a regular expression for the end of a name; a key that is literally such an
    # end (see `_check_names_exist`) means the same without running a stranger's expression.
    suffixes = set(_suffixes(module))
    return next((value for key, value in pattern.items() if key in suffixes), default)


def _invalid(problem: str) -> AdapterRejected:
    return AdapterRejected(f"adapter_config.json: {problem}", reason="CONFIG_INVALID")


def _unsupported(field: str, problem: str) -> AdapterRejected:
    return AdapterRejected(
        f"The adapter {problem} ({quote(field)}); only plain LoRA is served: convert it first.",
        reason="UNSUPPORTED_FEATURE",
        metadata={"field": quote(field)},
    )
