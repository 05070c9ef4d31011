"""An adapter that was made elsewhere, taken by the worker as its own: the same function, whatever its ranks, scales and modules."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.contracts.training_stand import CPU, build_base
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.techniques import BasePrecision
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.base import load_base

pytestmark = pytest.mark.filterwarnings("ignore")

# As judging has it: the largest rank there is, and a scale of one.
JUDGING = TrainingSettings(rank=16, alpha=16)
Effects = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama."""
    folder = tmp_path_factory.mktemp("base")
    build_base(folder, "llama")
    return folder


def make_given(base_dir: Path, folder: Path, config: LoraConfig) -> Effects:
    """Save an adapter with PEFT, and return what it adds to each weight. Its values have a bf16 each."""
    model = get_peft_model(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base_dir / "parity")), config)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = (0.1 * torch.randn_like(parameter)).bfloat16().float()
    model.save_pretrained(folder)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if "default" in getattr(module, "lora_A", ())
    }


def read_effects(folder: Path) -> Effects:
    """Return what the adapter that a worker saved adds to each weight, at the scale of one."""
    tensors = load_file(folder / "adapter_model.safetensors")
    modules = {name.rpartition(".lora_")[0] for name in tensors}
    return {
        module.removeprefix("base_model.model."): tensors[f"{module}.lora_B.weight"].float()
        @ tensors[f"{module}.lora_A.weight"].float()
        for module in modules
    }


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        LoraConfig(r=4, lora_alpha=16, use_rslora=True, target_modules=["q_proj", "up_proj"], layers_to_transform=[1]),
        LoraConfig(
            r=8,
            lora_alpha=16,
            rank_pattern={"k_proj": 2, "layers.0.mlp.down_proj": 16},
            alpha_pattern={"k_proj": 8},
            target_modules=["k_proj", "down_proj", "o_proj"],
        ),
    ],
    ids=["all", "few_and_stabilised", "patterns"],
)
def test_a_given_adapter_computes_what_it_computed(config: LoraConfig, base_dir: Path, tmp_path: Path) -> None:
    """What it does not adapt stays as it is; scales here are powers of two, which bf16 holds."""
    given = make_given(base_dir, tmp_path / "given", config)
    base = load_base(base_dir / "parity", BasePrecision.PARITY_BF16, CPU)
    adapter = Adapter(base, JUDGING, "tiny")
    adapter.adopt(tmp_path / "given")
    (tmp_path / "saved").mkdir()
    adapter.save(tmp_path / "saved")
    saved = read_effects(tmp_path / "saved")

    assert set(given) < set(saved) or set(given) == set(saved)
    for module, effect in saved.items():
        torch.testing.assert_close(effect, given.get(module, torch.zeros_like(effect)), rtol=1e-5, atol=1e-7)
