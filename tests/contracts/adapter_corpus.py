"""Good and bad adapters, most made by PEFT itself, each with what our judge and vLLM's own loader make of it.

`vllm` says what vLLM 0.32 does with the files: it "refuses" them; "serves" them as PEFT would; or "misserves"
them: its loader accepts what PEFT refuses or computes otherwise, or values that its 16-bit kernels cannot hold.
"""

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adaptory.core.base_shape import LINEAR_MODULES
from tests.adapters import (
    TINY_CONFIG,
    Tensors,
    random_tensors,
    read_config,
    read_raw_weights,
    tiny_shape,
    write_adapter,
    write_config,
    write_raw_weights,
    write_weights,
)

Effects = dict[str, torch.Tensor]
Build = Callable[[Path], Effects | None]


@dataclass(frozen=True, slots=True)
class Case:
    """One adapter: `build` writes it and may return what it was trained to add to each weight; `reason` is ours."""

    name: str
    build: Build
    reason: str | None
    vllm: Literal["serves", "refuses", "misserves"]


def good_cases() -> list[Case]:
    """Adapters that must be accepted and served exactly as PEFT computes them."""
    lora = {
        "plain": _lora(),
        "all_linear": _lora(target_modules="all-linear"),
        "rank_stabilised": _lora(use_rslora=True),
        "rank_12": _lora(r=12),
        "rank_64": _lora(r=64),
        "two_modules": _lora(target_modules=["q_proj", "v_proj"]),
        "one_layer": _lora(layers_to_transform=[0]),
        "one_layer_as_number": _lora(layers_to_transform=1),
        "excluded_module": _lora(exclude_modules=["up_proj"]),
        "full_name_beside_layers": _lora(
            target_modules=["q_proj", "model.layers.0.mlp.up_proj"], layers_to_transform=[1]
        ),
        "patterns": _lora(rank_pattern={"q_proj": 16}, alpha_pattern={"q_proj": 32, "mlp.up_proj": 4}),
        "patterns_first_match": _lora(rank_pattern={"layers.0.self_attn.q_proj": 4, "q_proj": 16}),
        "patterns_rank_stabilised": _lora(rank_pattern={"down_proj": 2}, use_rslora=True),
        "gaussian_init": _lora(init_lora_weights="gaussian"),
        "orthogonal_init": _lora(init_lora_weights="orthogonal"),
        "negative_free_alpha": _lora(lora_alpha=0.5),
    }
    cases = [Case(name, _trained(config), None, "serves") for name, config in lora.items()]
    cases += [
        Case("bfloat16", _trained(_lora(), dtype=torch.bfloat16), None, "serves"),
        Case("float16", _trained(_lora(), dtype=torch.float16), None, "serves"),
        Case("pissa_converted", _converted("pissa"), None, "serves"),
        Case("olora_converted", _converted("olora"), None, "serves"),
        Case("written_by_numpy", _broken(lambda _: None), None, "serves"),
    ]
    return cases


def foreign_cases() -> list[Case]:
    """What PEFT can make and we refuse: vLLM refuses it too, serves it wrongly, or runs what we cannot judge."""
    unsupported = {
        "dora": _lora(use_dora=True),
        "bias": _lora(bias="lora_only"),
        "lora_bias": _lora(lora_bias=True),
        "pissa": _lora(init_lora_weights="pissa"),
        "olora": _lora(init_lora_weights="olora"),
        "modules_to_save": _lora(modules_to_save=["lm_head"]),
        "trained_tokens": _lora(trainable_token_indices=[1, 2]),
        "activated": _lora(alora_invocation_tokens=[1, 2]),
        "replicated_layers": _lora(layer_replication=[[0, 2], [1, 2]]),
        "monteclora": _lora(monteclora_config=peft.MontecloraConfig()),
        "kasa": _lora(kasa_config=peft.KasaConfig()),
        "velora": _lora(velora_config=peft.VeloraConfig()),
        "block_diagonal": _lora(use_bdlora=peft.BdLoraConfig(list(LINEAR_MODULES), [], nblocks=2)),
        "ia3": peft.IA3Config(target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "loha": peft.LoHaConfig(r=4, target_modules=["q_proj"]),
        "vera": peft.VeraConfig(r=8, target_modules=["q_proj"]),
        "adalora": peft.AdaLoraConfig(total_step=100, target_modules=["q_proj"]),
        "prefix": peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    }
    large = {"rank_128": _lora(r=128), "rank_128_in_pattern": _lora(rank_pattern={"q_proj": 128})}
    stricter = {
        "regular_expression": _lora(target_modules=r".*\.(q|v)_proj"),
        "output_head": _lora(target_modules=["q_proj", "lm_head"]),
        "embeddings": _lora(target_modules=["q_proj", "embed_tokens"]),
    }
    return [
        *(Case(name, _trained(config), "UNSUPPORTED_FEATURE", "refuses") for name, config in unsupported.items()),
        *(Case(name, _trained(config), "RANK_ABOVE_LIMIT", "refuses") for name, config in large.items()),
        *(Case(name, _trained(config), "CONFIG_INVALID", "serves") for name, config in stricter.items()),
        Case("resized_vocabulary", _resized, "TENSOR_SET_MISMATCH", "refuses"),
    ]


def broken_config_cases() -> list[Case]:
    """A good adapter whose config lies, is no strict JSON, or says what no known rule covers."""

    def fields(**changes: object) -> Build:
        return _broken(lambda folder: write_config(folder, {**read_config(folder), **changes}))

    def text(old: str, new: str) -> Build:
        return _broken(lambda folder: _replace_text(folder / "adapter_config.json", old, new))

    invalid = "CONFIG_INVALID"
    return [
        Case("rank_0", fields(r=0), invalid, "refuses"),
        Case("rank_negative", fields(r=-1), invalid, "refuses"),
        Case("rank_text", fields(r="8"), invalid, "refuses"),
        Case("rank_fraction", fields(r=8.0), invalid, "misserves"),
        Case("rank_true", fields(r=True), invalid, "misserves"),
        Case("rank_understated", fields(r=4), "SHAPE_MISMATCH", "misserves"),
        Case("rank_overstated", fields(r=16), "SHAPE_MISMATCH", "misserves"),
        Case("rank_pattern_lies", fields(rank_pattern={"q_proj": 4}), "SHAPE_MISMATCH", "misserves"),
        Case("rank_pattern_expression", fields(rank_pattern={"(a|a)*q.proj": 8}), invalid, "serves"),
        Case("rank_pattern_list", fields(rank_pattern=[8]), invalid, "refuses"),
        Case("alpha_infinite", text('"lora_alpha": 16', '"lora_alpha": Infinity'), invalid, "misserves"),
        Case("alpha_overflows", text('"lora_alpha": 16', '"lora_alpha": 1e999'), invalid, "misserves"),
        Case("alpha_nan", text('"lora_alpha": 16', '"lora_alpha": NaN'), invalid, "misserves"),
        Case("alpha_1e30", fields(lora_alpha=1e30), invalid, "misserves"),
        Case("alpha_large", fields(lora_alpha=900_000), "NORM_ABOVE_LIMIT", "serves"),
        Case("alpha_pattern_text", fields(alpha_pattern={"q_proj": "16"}), invalid, "refuses"),
        Case("alpha_twice", text('"r": 8', '"r": 8, "lora_alpha": 32'), invalid, "serves"),
        Case("alpha_missing", _broken(lambda folder: _drop_field(folder, "lora_alpha")), invalid, "refuses"),
        Case("type_missing", _broken(lambda f: _drop_field(f, "peft_type")), "UNSUPPORTED_FEATURE", "misserves"),
        Case("other_task", fields(task_type="SEQ_CLS"), "UNSUPPORTED_FEATURE", "serves"),
        Case("unknown_field", fields(use_feature_of_next_year=True), "UNSUPPORTED_FEATURE", "serves"),
        Case("transposed", fields(fan_in_fan_out=True), "UNSUPPORTED_FEATURE", "serves"),
        Case("loftq", fields(init_lora_weights="loftq"), "UNSUPPORTED_FEATURE", "refuses"),
        Case("corda", fields(init_lora_weights="corda"), "UNSUPPORTED_FEATURE", "refuses"),
        Case("lora_ga", fields(init_lora_weights="lora_ga"), "UNSUPPORTED_FEATURE", "serves"),
        Case("classifier", fields(modules_to_save=["classifier"]), "UNSUPPORTED_FEATURE", "serves"),
        Case("bare_parameters", fields(target_parameters=["weight"]), "UNSUPPORTED_FEATURE", "misserves"),
        Case("targets_fewer", fields(target_modules=["q_proj"]), "TENSOR_SET_MISMATCH", "misserves"),
        Case("targets_unknown", fields(target_modules=["q_proj", "c_attn"]), invalid, "misserves"),
        Case("targets_none", fields(target_modules=[]), "TENSOR_SET_MISMATCH", "misserves"),
        Case("layer_beyond_base", fields(layers_to_transform=[7]), "TENSOR_SET_MISMATCH", "misserves"),
        Case("layers_by_pattern", fields(layers_pattern="blocks"), "UNSUPPORTED_FEATURE", "misserves"),
        Case("config_list", text("{", "[{"), invalid, "refuses"),
        Case("config_deep", _broken(lambda f: _write_bytes(f, CONFIG, b"[" * 200_000)), invalid, "refuses"),
        Case("config_large", fields(revision="x" * 300_000), "TOO_LARGE", "serves"),
        Case("config_not_text", _broken(lambda f: _write_bytes(f, CONFIG, b"\xff\xfe")), invalid, "refuses"),
    ]


def broken_weight_cases() -> list[Case]:
    """A good config beside tensors that are too few, too many, of another shape or type, or not finite."""

    def tensors(change: Callable[[Tensors], Tensors]) -> Build:
        good = random_tensors(tiny_shape(), 8, LINEAR_MODULES)
        return _broken(lambda folder: write_weights(folder, change(good)))

    def fill(value: float) -> Build:
        return tensors(lambda good: {**good, B_TENSOR: np.full_like(good[B_TENSOR], value)})

    def retype(dtype: str, factor: int) -> Build:
        return _broken(lambda folder: _retype(folder, dtype, factor))

    different = "TENSOR_SET_MISMATCH"
    return [
        Case("nan", fill(float("nan")), "NOT_FINITE", "misserves"),
        Case("infinity", fill(float("inf")), "NOT_FINITE", "misserves"),
        Case("overflows_16_bits", fill(1e5), "NORM_ABOVE_LIMIT", "misserves"),
        Case("largest_float", fill(3.4e38), "NORM_ABOVE_LIMIT", "misserves"),
        Case(
            "only_a",
            tensors(lambda good: {k: v for k, v in good.items() if "_A" in k}),
            different,
            "misserves",
        ),
        Case("one_b_missing", tensors(lambda good: _without(good, B_TENSOR)), different, "misserves"),
        Case("layer_missing", tensors(lambda good: _without(good, "layers.1.")), different, "misserves"),
        Case("module_missing", tensors(lambda good: _without(good, "q_proj")), different, "misserves"),
        Case("no_tensors", tensors(lambda _: {}), "HEADER_INVALID", "misserves"),
        Case("layer_extra", tensors(lambda good: _copy(good, "layers.1.", "layers.9.")), different, "serves"),
        Case("module_extra", tensors(lambda good: _copy(good, "q_proj", "c_attn")), different, "refuses"),
        Case("embedding_extra", tensors(_add_embedding), different, "serves"),
        Case(
            "prefix_missing",
            tensors(lambda good: _rename(good, "base_model.model.", "")),
            different,
            "misserves",
        ),
        Case("adapter_named", tensors(lambda good: _rename(good, "_A.", "_A.default.")), different, "refuses"),
        Case(
            "transposed_a",
            tensors(lambda good: _reshape_a(good, lambda a: a.T)),
            "SHAPE_MISMATCH",
            "misserves",
        ),
        Case("flat_a", tensors(lambda good: _reshape_a(good, np.ravel)), "SHAPE_MISMATCH", "misserves"),
        Case("wider_base", tensors(lambda good: _reshape_a(good, _double)), "SHAPE_MISMATCH", "misserves"),
        Case("double", retype("F64", 2), "DTYPE_UNSUPPORTED", "misserves"),
        Case("integers", retype("I32", 1), "DTYPE_UNSUPPORTED", "misserves"),
        Case("unknown_type", retype("F7", 1), "DTYPE_UNSUPPORTED", "refuses"),
    ]


def broken_file_cases() -> list[Case]:
    """A good adapter whose folder or bytes were damaged."""

    def raw(change: Callable[[bytes], bytes]) -> Build:
        return _broken(
            lambda folder: _write_bytes(folder, WEIGHTS, change((folder / WEIGHTS).read_bytes())),
        )

    def header(change: Callable[[dict[str, Any]], object]) -> Build:
        return _broken(lambda folder: _change_header(folder, change))

    layout, bad = "FOLDER_LAYOUT", "HEADER_INVALID"
    return [
        Case("cut_in_half", raw(lambda data: data[: len(data) // 2]), bad, "refuses"),
        Case("cut_by_one", raw(lambda data: data[:-1]), bad, "refuses"),
        Case("tail", raw(lambda data: data + b"\0"), bad, "refuses"),
        Case("empty_file", raw(lambda _: b""), bad, "refuses"),
        Case("header_cut", raw(lambda data: data[:100]), bad, "refuses"),
        Case("header_huge", raw(lambda data: struct.pack("<Q", 1 << 60) + data[8:]), bad, "refuses"),
        Case("header_no_json", raw(lambda data: data[:8] + b"x" + data[9:]), bad, "refuses"),
        Case("header_padded", _broken(_pad_header), bad, "serves"),
        Case("header_name_twice", _broken(_repeat_name), bad, "misserves"),
        Case("header_unknown_field", header(lambda fields: fields[B_TENSOR].update(scale=2)), bad, "serves"),
        Case("header_metadata", header(lambda fields: fields.update(__metadata__={"a": 1})), bad, "refuses"),
        Case("header_overlap", header(_overlap), bad, "refuses"),
        Case("header_gap", header(_leave_gap), bad, "refuses"),
        Case("header_negative", header(lambda fields: fields[B_TENSOR].update(shape=[-8, -8])), bad, "refuses"),
        Case("pickle", _broken(_replace_by_pickle), layout, "serves"),
        Case("pickle_beside", _broken(lambda f: torch.save({}, f / "adapter_model.bin")), layout, "serves"),
        Case(
            "template_beside",
            _broken(lambda f: _write_bytes(f, "chat_template.jinja", b"")),
            layout,
            "serves",
        ),
        Case("folder_beside", _broken(lambda folder: (folder / "original").mkdir()), layout, "serves"),
        Case("link", _broken(_replace_by_link), layout, "serves"),
        Case("config_missing", _broken(lambda folder: (folder / CONFIG).unlink()), layout, "refuses"),
        Case("weights_missing", _broken(lambda folder: (folder / WEIGHTS).unlink()), layout, "refuses"),
        Case("weights_a_folder", _broken(_replace_by_folder), layout, "refuses"),
        Case("folder_missing", _broken(shutil.rmtree), layout, "refuses"),
    ]


CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
A_TENSOR = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
B_TENSOR = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"


def _lora(**changes: Any) -> peft.LoraConfig:
    fields = {"r": 8, "lora_alpha": 16, "target_modules": list(LINEAR_MODULES), "task_type": "CAUSAL_LM"}
    return peft.LoraConfig(**{**fields, **changes})


def base_model() -> LlamaForCausalLM:
    """Return the tiny base, always with the same weights, and leave torch's seed at a known place."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**TINY_CONFIG))


def _trained(config: peft.PeftConfig, dtype: torch.dtype = torch.float32) -> Build:
    """Attach the adapter with PEFT, move its weights away from their start, save it as users do."""

    def build(folder: Path) -> Effects:
        model = peft.get_peft_model(base_model(), config)
        _shake(model, dtype)
        _save(model, folder)
        return effects_of(model.float())

    return build


def _resized(folder: Path) -> None:
    """Add tokens to the vocabulary; PEFT then saves the whole embeddings beside the adapter."""
    base = base_model()
    base.resize_token_embeddings(TINY_CONFIG["vocab_size"] + 8, mean_resizing=False)
    _save(peft.get_peft_model(base, _lora()), folder, save_embedding_layers=True)


def _converted(init: str) -> Build:
    """Train from an init that changes the base, then let PEFT rewrite the difference as plain LoRA of twice the rank."""

    def build(folder: Path) -> Effects:
        before = {name: weight.clone() for name, weight in base_model().state_dict().items()}
        model = peft.get_peft_model(base_model(), _lora(init_lora_weights=init))
        start = folder.with_name(f"{folder.name}-start")
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(start)
        model.peft_config["default"].init_lora_weights = init
        _shake(model, torch.float32)
        _save(model, folder, path_initial_model_for_weight_conversion=str(start))
        after = model.merge_and_unload().state_dict()
        return {name: after[f"{name}.weight"] - before[f"{name}.weight"] for name in tiny_shape().linear_shapes()}

    return build


def _shake(model: torch.nn.Module, dtype: torch.dtype) -> None:
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = (parameter.data + 0.02 * torch.randn_like(parameter)).to(dtype)


def _save(model: peft.PeftModel, folder: Path, **options: str | bool) -> None:
    model.save_pretrained(folder, **options)
    (folder / "README.md").unlink()


def effects_of(model: torch.nn.Module) -> Effects:
    """Return what the adapter adds to each linear layer's weight, by PEFT's own sum."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach().float()
        for name, module in model.named_modules()
        if isinstance(module, peft.tuners.lora.Linear) and "default" in module.lora_A
    }


def _broken(change: Callable[[Path], object]) -> Build:
    """Write a good adapter with numpy, then break it in one place."""

    def build(folder: Path) -> None:
        change(write_adapter(folder, tiny_shape()))

    return build


def _write_bytes(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)


def _replace_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))


def _drop_field(folder: Path, key: str) -> None:
    config = read_config(folder)
    del config[key]
    write_config(folder, config)


def _without(tensors: Tensors, part: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if part not in name}


def _rename(tensors: Tensors, old: str, new: str) -> Tensors:
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


def _copy(tensors: Tensors, old: str, new: str) -> Tensors:
    return {**tensors, **_rename({name: tensors[name] for name in tensors if old in name}, old, new)}


def _add_embedding(tensors: Tensors) -> Tensors:
    return {
        **tensors,
        "base_model.model.model.embed_tokens.base_layer.weight": np.ones((136, 64), np.float32),
    }


def _reshape_a(tensors: Tensors, change: Callable[[Any], Any]) -> Tensors:
    return {**tensors, A_TENSOR: np.ascontiguousarray(change(tensors[A_TENSOR]))}


def _double(tensor: Any) -> Any:
    return np.concatenate([tensor, tensor], axis=1)


def _change_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields, data = read_raw_weights(folder)
    change(fields)
    write_raw_weights(folder, json.dumps(fields).encode(), data)


def _retype(folder: Path, dtype: str, factor: int) -> None:
    """Call one tensor another type of `factor` times its bytes per element, in a shape that fits."""
    rows, columns = random_tensors(tiny_shape(), 8, LINEAR_MODULES)[B_TENSOR].shape
    _change_header(folder, lambda fields: fields[B_TENSOR].update(dtype=dtype, shape=[rows // factor, columns]))


def _overlap(fields: dict[str, Any]) -> None:
    fields[B_TENSOR]["data_offsets"] = [fields[A_TENSOR]["data_offsets"][0] + offset for offset in (0, 2048)]


def _leave_gap(fields: dict[str, Any]) -> None:
    fields[B_TENSOR]["data_offsets"] = [offset + 8 for offset in fields[B_TENSOR]["data_offsets"]]


def _pad_header(folder: Path) -> None:
    fields, data = read_raw_weights(folder)
    header = json.dumps(fields).encode()
    header += b" " * (-len(header) % 8 + 4)
    _write_bytes(folder, WEIGHTS, struct.pack("<Q", len(header)) + header + data)


def _repeat_name(folder: Path) -> None:
    """Name one tensor twice with different shapes; readers differ on which one holds."""
    fields, data = read_raw_weights(folder)
    twin = {**fields[A_TENSOR], "shape": [128, 8]}
    header = json.dumps(fields)[:-1] + f', "{A_TENSOR}": {json.dumps(twin)}}}'
    write_raw_weights(folder, header.encode(), data)


def _replace_by_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    tensors = random_tensors(tiny_shape(), 8, LINEAR_MODULES)
    torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, folder / "adapter_model.bin")


def _replace_by_link(folder: Path) -> None:
    target = folder.with_name(f"{folder.name}-target")
    shutil.move(folder / WEIGHTS, target)
    (folder / WEIGHTS).symlink_to(target)


def _replace_by_folder(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
