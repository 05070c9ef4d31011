"""Brings the `adapter_config.json` of another program into the one that servers load.

Fills in what a slim one leaves out and leaves out what changes nothing; whether what is left is plain LoRA is for the one judge,
`adaptory.core.adapter_config`, which reads every field but those that are unknown and off. No regular expression of a stranger is
run: where targets are a pattern, the tensors say which modules were adapted.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from adaptory.core.adapter_config import KNOWN_FIELDS, is_off, parse_adapter_config
from adaptory.core.base_shape import LINEAR_MODULES
from adaptory.core.errors import AdapterRejected
from adaptory.core.safetensors_header import quote
from adaptory.core.strict_json import parse_object

_MAX_NAME_CHARS = 200
# torchtune's names of modules; those of the others it has from Hugging Face.
_TORCHTUNE_TARGETS = {"output_proj": "o_proj", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
# What decides which function the adapter computes; everything else tells how it was made.
_KEPT = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "exclude_modules", "layers_to_transform")


@dataclass(frozen=True, slots=True)
class NormalConfig:
    """The fields that are written, the base that the original named, and what was changed, a sentence each."""

    fields: dict[str, object]
    named_base: str
    changes: tuple[str, ...]

    def to_json(self, base_name: str) -> bytes:
        """Return the file for a version on this base."""
        return json.dumps({**self.fields, "base_model_name_or_path": base_name}, indent=2, sort_keys=True).encode()


def normalise_config(raw: bytes, adapted: Collection[str], known: Collection[str]) -> NormalConfig:
    """Read a config; `adapted` are the modules that the weights have matrices for, `known` the base's, both by their full names.

    Raises AdapterRejected: CONFIG_INVALID, UNSUPPORTED_FEATURE.
    """
    try:
        original = parse_object(raw)
    except ValueError as error:
        problem = ascii(str(error))[1:-1][:200]
        message = f"adapter_config.json is not strict JSON: {problem}"
        raise AdapterRejected(message, reason="CONFIG_INVALID") from error
    fields = {name: value for name, value in original.items() if name in KNOWN_FIELDS or not is_off(value)}
    changes = list(_fill_type(fields))
    changes += _settle_targets(fields, adapted, known)
    parsed = parse_adapter_config(json.dumps(fields).encode())
    kept = {name: fields[name] for name in _KEPT if not is_off(fields.get(name))}
    left_out = sorted(name for name in original if name not in {*kept, *_WRITTEN, "base_model_name_or_path"})
    if left_out:
        names = ", ".join(quote(name)[1:-1] for name in left_out[:40])
        changes.append(f"Left out {len(left_out)} fields that are off, or only tell how it was trained: {names}.")
    named = original.get("base_model_name_or_path")
    written = {**_WRITTEN, **kept, "target_modules": sorted(parsed.target_modules)}
    return NormalConfig(written, _show_name(named), tuple(changes))


# As a version that was trained here has them.
_WRITTEN: dict[str, object] = {
    "bias": "none",
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_dropout": 0.0,
    "peft_type": "LORA",
    "target_modules": [],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": False,
}


def _show_name(named: object) -> str:
    """Return a name for people to read, whatever it held."""
    return "".join(filter(str.isprintable, named))[:_MAX_NAME_CHARS] if isinstance(named, str) else ""


def _fill_type(fields: dict[str, object]) -> Iterator[str]:
    """Say that it is LoRA where the config says nothing but has LoRA's numbers; the tensors are LoRA's, or it is refused for them."""
    if fields.get("peft_type") is None and {"r", "lora_alpha"} <= fields.keys():
        fields["peft_type"] = "LORA"
        yield "Filled in peft_type, LORA."
    elif isinstance(kind := fields.get("peft_type"), str):
        fields["peft_type"] = kind.upper()


def _settle_targets(fields: dict[str, object], adapted: Collection[str], known: Collection[str]) -> Iterator[str]:
    """Make the targets a list of names of the base's modules."""
    targets = fields.get("target_modules")
    if targets == "all-linear":
        fields["target_modules"] = list(LINEAR_MODULES)
        yield "Wrote out the target_modules all-linear."
    elif targets is None or isinstance(targets, str) or isinstance(fields.get("exclude_modules"), str):
        # The full names: a short one would say that every layer is adapted.
        fields["target_modules"] = _shorten(adapted, known)
        for name in ("exclude_modules", "layers_to_transform", "layers_pattern"):
            fields.pop(name, None)
        yield "Wrote out target_modules as the modules that the weights adapt; it was missing, or a pattern."
    elif isinstance(targets, list) and all(isinstance(name, str) for name in targets):
        yield from _rename_targets(fields, targets, adapted, known)


def _rename_targets(
    fields: dict[str, object], targets: list[str], adapted: Collection[str], known: Collection[str]
) -> Iterator[str]:
    renamed = [_TORCHTUNE_TARGETS.get(name, name) for name in targets]
    if renamed != targets:
        yield "Renamed torchtune's target_modules to those of the base."
    # PEFT passes over a name that the model lacks, as long as another is there.
    missing = {name for name in renamed if not _names_any(name, known) and not _names_any(name, adapted)}
    fields["target_modules"] = [name for name in renamed if name not in missing]
    if missing and len(missing) < len(set(renamed)):
        names = ", ".join(quote(name)[1:-1] for name in sorted(missing))
        yield f"Left out target_modules that neither the base nor the weights have: {names}."
    else:
        fields["target_modules"] = renamed


def _names_any(target: str, modules: Collection[str]) -> bool:
    return any(module == target or module.endswith(f".{target}") for module in modules)


def _shorten(adapted: Collection[str], known: Collection[str]) -> list[str]:
    """Return the short names of the modules where they are adapted in every layer, and full names else."""
    short = {module.rpartition(".")[2] for module in adapted}
    every = {module for module in known if module.rpartition(".")[2] in short}
    return sorted(short if every == set(adapted) else adapted)
