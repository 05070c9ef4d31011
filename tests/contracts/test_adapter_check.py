"""Our judge beside vLLM's own loader on a corpus of adapters: nothing passes that vLLM refuses or misserves."""

import warnings
from pathlib import Path

import pytest

from adaptory.core.adapter_check import AdapterLimits, check_adapter
from adaptory.core.errors import AdapterRejected
from tests.adapters import TINY_CONFIG, tiny_shape

with warnings.catch_warnings():
    # Torch, PEFT and vLLM warn about each other as they are imported; our own warnings stay errors.
    warnings.simplefilter("ignore")
    import torch
    from peft import PeftModel
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    from tests.contracts.adapter_corpus import (
        Case,
        Effects,
        base_model,
        broken_config_cases,
        broken_file_cases,
        broken_weight_cases,
        effects_of,
        foreign_cases,
        good_cases,
    )

pytestmark = pytest.mark.filterwarnings("ignore")

LIMITS = AdapterLimits()
GOOD = good_cases()
BAD = [*foreign_cases(), *broken_config_cases(), *broken_weight_cases(), *broken_file_cases()]
# What a Llama of vLLM lets an adapter touch: its packed linear layers by PEFT's names, its embeddings, its head.
VLLM_MODULES = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("lm_head", "embed_tokens"),
}


def load_with_vllm(folder: Path) -> LoRAModel:
    """Load the adapter as vLLM's worker does, in float32 so that effects can be compared closely."""
    helper = PEFTHelper.from_local_dir(str(folder), TINY_CONFIG["max_position_embeddings"])
    helper.validate_legal(LoRAConfig(max_lora_rank=LIMITS.max_rank))
    return LoRAModel.from_local_checkpoint(
        str(folder),
        VLLM_MODULES,
        helper,
        device="cpu",
        dtype=torch.float32,
        model_vocab_size=TINY_CONFIG["vocab_size"],
    )


def effects_in_vllm(model: LoRAModel) -> Effects:
    """Return what vLLM would add to each linear layer of the base; it passes over names that the base lacks."""
    modules = {
        **tiny_shape().linear_shapes(),
        "lm_head": (TINY_CONFIG["hidden_size"], TINY_CONFIG["vocab_size"]),
    }
    effects = {name: lora.scaling * lora.lora_b @ lora.lora_a for name, lora in model.loras.items() if name in modules}
    assert all(effect.shape == (modules[name][1], modules[name][0]) for name, effect in effects.items())
    return effects


def is_served_as_in_peft(folder: Path, model: LoRAModel) -> bool:
    """Tell whether PEFT loads the same files to the same effects, and 16-bit kernels can hold the weights."""
    try:
        expected = effects_of(PeftModel.from_pretrained(base_model(), folder))
        largest = max(float((lora.scaling * lora.lora_b).abs().max()) for lora in model.loras.values())
        # Rounding errors of a sum grow with its terms, not with its result.
        torch.testing.assert_close(effects_in_vllm(model), expected, rtol=1e-3, atol=1e-6 * max(1.0, largest))
    except Exception:  # noqa: BLE001 - whatever either library raises, the adapter is not served as trained
        return False
    return largest < torch.finfo(torch.float16).max


def judge_with_vllm(folder: Path) -> str:
    """Say what vLLM does with the files, in the words of `Case.vllm`."""
    try:
        model = load_with_vllm(folder)
    except Exception:  # noqa: BLE001 - vLLM refuses with whatever its libraries raise
        return "refuses"
    return "serves" if is_served_as_in_peft(folder, model) else "misserves"


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_accepted_adapter_is_served_as_it_was_trained(case: Case, tmp_path: Path) -> None:
    """What we accept, vLLM loads, and it adds to each weight what the adapter added when it was trained."""
    trained = case.build(tmp_path / "adapter")

    report = check_adapter(tmp_path / "adapter", tiny_shape(), LIMITS)
    served = effects_in_vllm(load_with_vllm(tmp_path / "adapter"))

    assert report.num_parameters > 0
    torch.testing.assert_close(served, served if trained is None else trained, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_bad_adapter_is_rejected_for_the_rule_it_breaks(case: Case, tmp_path: Path) -> None:
    """Each bad adapter is rejected with its reason in words that name no object of Python."""
    case.build(tmp_path / "adapter")

    with pytest.raises(AdapterRejected) as rejected:
        check_adapter(tmp_path / "adapter", tiny_shape(), LIMITS)

    assert rejected.value.reason == case.reason
    assert str(rejected.value).isascii()


@pytest.mark.parametrize("case", [*GOOD, *BAD], ids=lambda case: case.name)
def test_vllm_judges_as_the_corpus_says(case: Case, tmp_path: Path) -> None:
    """The corpus tells the truth about vLLM: a release that changes its mind fails here before it reaches users."""
    case.build(tmp_path / "adapter")

    assert judge_with_vllm(tmp_path / "adapter") == case.vllm


def test_nothing_that_vllm_refuses_or_misserves_is_accepted() -> None:
    """The corpus holds enough of both kinds to mean something, and we accept none of them."""
    wrong = [case for case in (*GOOD, *BAD) if case.vllm != "serves"]

    assert len(wrong) >= 40
    assert all(case.reason is not None for case in wrong)
