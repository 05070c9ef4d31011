"""The normal form of imported adapters beside PEFT and vLLM's own loader: what is taken is served as it was trained."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptory.core.adapter_check import ADAPTER_FILES, AdapterLimits
from adaptory.core.base_model import PreparedBase
from adaptory.core.errors import AdapterRejected
from tests.adapters import tiny_shape, write_config
from tests.fakes import base as fake_base
from tests.foreign_adapters import ORIGINS
from trainer_svc.importing.normal_form import write_normal_form

with warnings.catch_warnings():
    # Torch, PEFT and vLLM warn about each other as they are imported; our own warnings stay errors.
    warnings.simplefilter("ignore")
    import peft
    import torch
    from safetensors.torch import load_file, save_file

    from tests.contracts.adapter_corpus import WEIGHTS, Case, base_model, effects_of
    from tests.contracts.test_adapter_check import BAD, GOOD, effects_in_vllm, judge_with_vllm, load_with_vllm

pytestmark = pytest.mark.filterwarnings("ignore")

LIMITS = AdapterLimits()
Rename = Callable[[str], str]
FORMS: dict[str, Rename] = {
    "named": lambda name: name.replace(".weight", ".default.weight"),
    "bare": lambda name: name.removeprefix("base_model.model."),
    "wrapped": lambda name: name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."),
    "compiled": lambda name: f"_orig_mod.{name}",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> PreparedBase:
    """A prepared base of the shape that the corpus adapts."""
    return replace(fake_base.write_base(tmp_path_factory.mktemp("cache")), shape=tiny_shape())


def train(folder: Path, **fields: Any) -> dict[str, torch.Tensor]:
    """Leave an adapter that PEFT made, no longer zero, and return what it adds to each weight.

    Its values have a bf16 each, in files of fp32: rounding them changes nothing.
    """
    config = peft.LoraConfig(**{"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM", **fields})
    model = peft.get_peft_model(base_model(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = (parameter + 0.02 * torch.randn_like(parameter)).detach().bfloat16().float()
    model.save_pretrained(folder)
    return effects_of(model)


def normalise(folder: Path, base: PreparedBase) -> Path:
    """Return where the normal form of an adapter was written."""
    target = folder.with_name("normal")
    target.mkdir()
    write_normal_form(folder, target, base, LIMITS)
    return target


def normalise_or_refuse(folder: Path, base: PreparedBase) -> Path | None:
    """Return where the normal form was written, None where the adapter is refused."""
    try:
        return normalise(folder, base)
    except AdapterRejected:
        return None


@pytest.mark.parametrize("origin", ORIGINS)
def test_each_programs_adapter_is_served_as_it_was_trained(origin: str, base: PreparedBase, tmp_path: Path) -> None:
    """Under the config of each program vLLM adds to each weight what the adapter added when it was trained."""
    fields = ORIGINS[origin]
    trained = train(
        tmp_path / "adapter", target_modules=fields["target_modules"], use_rslora=fields.get("use_rslora", False)
    )
    write_config(tmp_path / "adapter", fields)
    served = effects_in_vllm(load_with_vllm(normalise(tmp_path / "adapter", base)))

    torch.testing.assert_close(served, trained, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_under_other_names_is_served_as_it_was_trained(
    form: str, base: PreparedBase, tmp_path: Path
) -> None:
    """Patterns, some modules of one layer, and names that PEFT itself would not find."""
    folder = tmp_path / "adapter"
    trained = train(
        folder,
        target_modules=r".*layers\.1.*\.(q_proj|up_proj|down_proj)",
        alpha_pattern={"up_proj": 4},
        use_rslora=True,
    )
    tensors = load_file(folder / WEIGHTS)
    save_file({FORMS[form](name): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
    served = effects_in_vllm(load_with_vllm(normalise(folder, base)))

    torch.testing.assert_close(served, trained, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("case", [*GOOD, *BAD], ids=lambda case: case.name)
def test_nothing_is_imported_that_vllm_refuses_or_misserves(case: Case, base: PreparedBase, tmp_path: Path) -> None:
    """Of the corpus: what is taken is served, as PEFT computes the same files; what was served rightly before is taken."""
    folder = tmp_path / "adapter"
    case.build(folder)
    if not all((folder / name).is_file() for name in ADAPTER_FILES):
        pytest.skip("an upload without its two files is refused before it is read")
    target = normalise_or_refuse(folder, base)

    assert case.reason is not None or target is not None
    assert target is None or judge_with_vllm(target) == "serves"
