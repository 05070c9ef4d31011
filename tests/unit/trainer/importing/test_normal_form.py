"""The normal form of adapters that other programs wrote: what servers load is the same adapter, or it is refused by its reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptory.core.adapter_check import AdapterLimits
from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import AdapterRejected
from tests.adapters import Tensors, read_config, read_raw_weights, write_raw_weights
from tests.fakes import base as fake_base
from tests.foreign_adapters import ORIGINS, PEFT, TORCHTUNE, tiny_tensors, write_foreign
from trainer_svc.importing.normal_form import NormalForm, write_normal_form

LIMITS = AdapterLimits(max_rank=16)
FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> PreparedBase:
    """The prepared base `tiny`."""
    return fake_base.write_base(tmp_path_factory.mktemp("cache"))


def normalise(folder: Path, base: PreparedBase) -> tuple[NormalForm, Path]:
    """Return the normal form and the folder it is written to."""
    target = folder.with_name(f"{folder.name}-normal-{len(list(folder.parent.iterdir()))}")
    target.mkdir()
    return write_normal_form(folder, target, base, LIMITS), target


def reason_of(folder: Path, base: PreparedBase) -> str:
    """Return why an adapter is refused, and make sure that the sentence is one for people."""
    with pytest.raises(AdapterRejected) as refused:
        normalise(folder, base)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500
    return refused.value.reason


def normalise_or_refuse(folder: Path, base: PreparedBase) -> NormalForm | None:
    """Return the normal form, None where the adapter is refused: the two ways in which it may end."""
    try:
        return normalise(folder, base)[0]
    except AdapterRejected:
        return None


@pytest.mark.parametrize("origin", ORIGINS)
def test_each_programs_config_is_taken(origin: str, base: PreparedBase, tmp_path: Path) -> None:
    """What it computes stays; the original is kept word for word."""
    form, target = normalise(write_foreign(tmp_path / "adapter", ORIGINS[origin]), base)
    written, original = read_config(target), ORIGINS[origin]

    assert json.loads(form.original_config) == original
    assert (written["r"], written["lora_alpha"], written["peft_type"]) == (8, 16, "LORA")
    assert written["use_rslora"] == original.get("use_rslora", False)
    assert written["target_modules"] == sorted(PEFT["target_modules"])
    assert written["base_model_name_or_path"] == fake_base.NAME
    assert form.config.named_base == original.get("base_model_name_or_path", "")


def test_what_decides_the_function_is_kept(base: PreparedBase, tmp_path: Path) -> None:
    """Patterns by name, layers and excluded modules are said again as they were."""
    fields = {"alpha_pattern": {"q_proj": 4}, "exclude_modules": ["up_proj"], "layers_to_transform": [1]}
    tensors = {name: tensor for name, tensor in tiny_tensors().items() if ".1." in name and "up_proj" not in name}
    _, target = normalise(write_foreign(tmp_path / "adapter", {**PEFT, **fields}, tensors), base)

    assert {name: read_config(target)[name] for name in fields} == fields


def test_slim_and_odd_configs_are_filled_in(base: PreparedBase, tmp_path: Path) -> None:
    """No type, torchtune's names of targets, a target that no module has, a field of a later release that is off."""
    fields = {
        "r": 8,
        "lora_alpha": 16.0,
        "target_modules": ["q_proj", "k_proj", "v_proj", "output_proj", "w1", "w2", "w3", "c_attn"],
        "use_something_new": False,
        "new_config": None,
    }
    form, target = normalise(write_foreign(tmp_path / "adapter", fields), base)

    assert read_config(target)["target_modules"] == sorted(PEFT["target_modules"])
    assert [change.split()[0] for change in form.changes] == ["Filled", "Renamed", "Left", "Left", "Rounded"]
    assert "c_attn" in form.changes[2]
    assert "new_config, use_something_new" in form.changes[3]


def test_missing_targets_are_what_the_weights_adapt(base: PreparedBase, tmp_path: Path) -> None:
    """Short names where every layer is adapted, else full names: never more than the file has."""
    some = {name: tensor for name, tensor in tiny_tensors().items() if "q_proj" in name or ".1.mlp.up_proj" in name}
    _, target = normalise(write_foreign(tmp_path / "adapter", {**PEFT, "target_modules": None}, some), base)

    assert read_config(target)["target_modules"] == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
        "model.layers.1.self_attn.q_proj",
    ]


def _rename(change: Callable[[str], str]) -> Tensors:
    return {change(name): tensor for name, tensor in tiny_tensors().items()}


NAMES: dict[str, Callable[[str], str]] = {
    "adapter_named": lambda name: name.replace(".weight", ".default.weight"),
    "no_prefix": lambda name: name.removeprefix("base_model.model."),
    "prefix_twice": lambda name: f"base_model.model.{name}",
    "compiled": lambda name: name.replace("model.layers", "_orig_mod.model.layers"),
    "sharded": lambda name: name.replace("self_attn.", "_fsdp_wrapped_module.self_attn."),
    "checkpointed": lambda name: name.replace("mlp.", "_checkpoint_wrapped_module.mlp."),
    "with_pictures": lambda name: name.replace("model.model.layers", "model.model.language_model.layers"),
}


@pytest.mark.parametrize("form", NAMES)
def test_other_names_of_tensors_become_pefts(form: str, base: PreparedBase, tmp_path: Path) -> None:
    """The bytes that servers get are those of the same adapter under PEFT's names."""
    plain, _ = normalise(write_foreign(tmp_path / "plain", PEFT), base)
    renamed, _ = normalise(write_foreign(tmp_path / "renamed", PEFT, _rename(NAMES[form])), base)

    assert renamed.report.digest == plain.report.digest
    assert any(change.startswith("Renamed ") for change in renamed.changes)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_weights_are_kept_as_they_are_served(dtype: str, base: PreparedBase, tmp_path: Path) -> None:
    """In bf16, whatever they came in; those that are bf16 stay bit for bit."""
    folder = write_foreign(tmp_path / "adapter", PEFT, dtype=dtype)
    _, target = normalise(folder, base)
    (fields, data), (originals, original) = read_raw_weights(target), read_raw_weights(folder)
    names = set(fields) - {"__metadata__"}

    assert {fields[name]["dtype"] for name in names} == {"BF16"}
    if dtype == "BF16":
        for name in names:
            assert data[slice(*fields[name]["data_offsets"])] == original[slice(*originals[name]["data_offsets"])]


def test_rounding_is_to_even(base: PreparedBase, tmp_path: Path) -> None:
    """As torch rounds: half to even, and up where more than half."""
    tensors = tiny_tensors()
    name = min(tensors)
    values = [1.0, 1.00390625, 1.01171875, 1.004, -1.00390625, 0.0, -0.0]  # bf16 has steps of 1/128 here
    tensors[name].flat[: len(values)] = values
    _, target = normalise(write_foreign(tmp_path / "adapter", PEFT, tensors), base)
    fields, data = read_raw_weights(target)
    begin, end = fields[name]["data_offsets"]
    found = (np.frombuffer(data[begin:end], "<u2")[: len(values)].astype("<u4") << 16).view("<f4")

    assert found.tolist() == [1.0, 1.0, 1.015625, 1.0078125, -1.0, 0.0, -0.0]
    assert np.signbit(found[-1])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_dora": True}, "UNSUPPORTED_FEATURE"),
        ({"bias": "all"}, "UNSUPPORTED_FEATURE"),
        ({"modules_to_save": ["lm_head"]}, "UNSUPPORTED_FEATURE"),
        ({"init_lora_weights": "pissa_niter_16"}, "UNSUPPORTED_FEATURE"),
        ({"init_lora_weights": "olora"}, "UNSUPPORTED_FEATURE"),
        ({"init_lora_weights": "loftq"}, "UNSUPPORTED_FEATURE"),
        ({"loftq_config": {"loftq_bits": 4}}, "UNSUPPORTED_FEATURE"),
        ({"peft_type": "IA3"}, "UNSUPPORTED_FEATURE"),
        ({"feature_of_next_year": 1}, "UNSUPPORTED_FEATURE"),
        ({"layers_pattern": "blocks"}, "UNSUPPORTED_FEATURE"),
        ({"rank_pattern": {".*q_proj": 8}}, "CONFIG_INVALID"),
        ({"target_modules": ["q_proj", "lm_head"]}, "TENSOR_SET_MISMATCH"),
        ({"target_modules": ["q_proj"]}, "TENSOR_SET_MISMATCH"),
        ({"target_modules": ["c_attn"]}, "CONFIG_INVALID"),
        ({"r": 32}, "RANK_ABOVE_LIMIT"),
        ({"r": 16}, "SHAPE_MISMATCH"),
        ({"lora_alpha": 900_000}, "NORM_ABOVE_LIMIT"),
        ({"lora_alpha": None}, "CONFIG_INVALID"),
    ],
)
def test_a_config_that_servers_would_load_wrongly_is_refused(
    changes: dict[str, object], reason: str, base: PreparedBase, tmp_path: Path
) -> None:
    """By the judge's own reason."""
    assert reason_of(write_foreign(tmp_path / "adapter", {**PEFT, **changes}), base) == reason


def _add(name: str, *shape: int) -> Tensors:
    return {**tiny_tensors(), name: np.ones(shape, np.float32)}


def _fill(value: float) -> Tensors:
    tensors = tiny_tensors()
    tensors[next(iter(tensors))][0, 0] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (_fill(float("nan")), "NOT_FINITE"),
        (_fill(float("inf")), "NOT_FINITE"),
        # Finite in fp32; no number of bf16.
        (_fill(3.4028e38), "NOT_FINITE"),
        (_fill(3e4), "NORM_ABOVE_LIMIT"),
        (_add("base_model.model.model.embed_tokens.weight", 266, 64), "EMBEDDINGS_CHANGED"),
        (_add("base_model.model.lm_head.weight", 258, 64), "EMBEDDINGS_CHANGED"),
        (_add("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", 64), "UNSUPPORTED_FEATURE"),
        (_add("base_model.model.model.norm.weight", 64), "FOREIGN_LAYOUT"),
        (_add("model.layers.0.self_attn.q_proj.lora_A.weight", 8, 64), "FOREIGN_LAYOUT"),
        (_add("base_model.model.model.layers.0.self_attn.q_proj.lora_A.other.weight", 8, 64), "FOREIGN_LAYOUT"),
        (_add("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", 8, 64), "TENSOR_SET_MISMATCH"),
        (_rename(lambda name: name.replace("lora_A", "lora_a").replace("lora_B", "lora_b")), "FOREIGN_LAYOUT"),
        ({name: tensor for name, tensor in tiny_tensors().items() if ".1." not in name}, "TENSOR_SET_MISMATCH"),
    ],
)
def test_weights_that_servers_would_load_wrongly_are_refused(
    tensors: Tensors, reason: str, base: PreparedBase, tmp_path: Path
) -> None:
    """By a reason of their own, or the judge's."""
    assert reason_of(write_foreign(tmp_path / "adapter", PEFT, tensors), base) == reason


@FUZZ
@given(data=st.data(), value=JSON)
def test_a_config_field_of_any_value_ends_in_a_verdict(
    data: st.DataObject, value: Any, base: PreparedBase, tmp_path: Path
) -> None:
    """A known field or another set to any JSON: the adapter is taken or refused, and nothing else is raised."""
    field = data.draw(st.sampled_from(sorted(PEFT)) | st.text(max_size=8))
    folder = write_foreign(tmp_path / "adapter", {**TORCHTUNE, field: value})

    form = normalise_or_refuse(folder, base)

    assert form is None or form.report.rank == 8


@FUZZ
@given(
    name=st.text(max_size=40)
    | st.from_regex(r"(base_model\.)?(model\.){0,3}layers\.[0-9]\.mlp\.up_proj\.lora_A(\.x)?\.weight")
)
def test_a_tensor_of_any_name_ends_in_a_verdict(name: str, base: PreparedBase, tmp_path: Path) -> None:
    """One tensor under another name is refused, unless it is the same name in another form."""
    folder = write_foreign(tmp_path / "adapter", PEFT)
    fields, weights = read_raw_weights(folder)
    own = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
    renamed = {(name if key == own else key): field for key, field in fields.items()}
    write_raw_weights(folder, json.dumps(renamed).encode(), weights)

    form = normalise_or_refuse(folder, base)

    assert form is None or "layers.1.mlp.up_proj.lora_A" in name
