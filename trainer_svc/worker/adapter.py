"""The LoRA adapter: made by PEFT, held in fp32 with a copy for compute, written in PEFT's format.

PEFT decides names, shapes and initial values; their memory is ours, so that one optimizer call updates all and the matrices that read
the same input lie stacked. Owns masters, gradients and copies; moments are the optimizer's.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from adaptory.core.adapter_config import parse_adapter_config
from adaptory.core.base_shape import LINEAR_MODULES
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.worker.base import GROUPS, FrozenBase

_ADAPTER_NAME = "default"
_CONFIG_FILE, _WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class LoraGroup:
    """The adapters of one group of linear layers: the copies that are computed with, and the fp32 sums of their gradients.

    `down` is [k * rank, in], the k matrices A below each other; `ups` are the k matrices B [out, rank].
    """

    down: torch.Tensor
    ups: tuple[torch.Tensor, ...]
    down_grad: torch.Tensor
    up_grads: tuple[torch.Tensor, ...]
    scale: float


class Adapter:
    """All adapters of a model in three flat tensors: `masters` and `gradients` in fp32, a copy for compute in bf16 or fp16."""

    def __init__(self, base: FrozenBase, settings: TrainingSettings, base_name: str) -> None:
        """Let PEFT make and initialise the adapters from the settings' seed; B is zero, so the model is still its base."""
        self._rank, self._scale = settings.rank, settings.alpha / settings.rank
        self._peft = _attach_to_skeleton(base, settings, base_name)
        size = sum(parameter.numel() for parameter in self._peft.parameters() if parameter.requires_grad)
        self.masters = torch.zeros(size, device=base.device)
        self.gradients = torch.zeros(size, device=base.device)
        self._copies = torch.zeros(size, dtype=base.dtype, device=base.device)
        offsets = self._place_parameters(base.shape.num_layers)
        self._initialise(settings.seed)
        self.groups = tuple(
            {name: self._view_group(offsets[layer, name], layer, name) for name in GROUPS}
            for layer in range(base.shape.num_layers)
        )
        self.refresh_copies()

    def refresh_copies(self) -> None:
        """Round the masters into the copies; after every change of the masters."""
        self._copies.copy_(self.masters)

    def round_as_served(self) -> None:
        """Give masters and copies the values that `save` writes, so that what is judged from now on is what is served."""
        served = self._copies.view(torch.bfloat16)
        self.masters.copy_(served.copy_(self.masters))
        self.refresh_copies()

    def drop_gradients(self) -> None:
        """Give back the memory of the gradients, which are not to be used again; views of them stay, without any."""
        self.gradients.untyped_storage().resize_(0)

    def save(self, folder: Path) -> None:
        """Write PEFT's two files into an empty folder; weights in bf16, as they are served."""
        rounded = {name: tensor.to(torch.bfloat16, copy=True).cpu() for name, tensor in self._list_tensors().items()}
        save_file(rounded, folder / _WEIGHTS_FILE, metadata={"format": "pt"})
        config = self._peft.peft_config[_ADAPTER_NAME]
        config.inference_mode = True
        # PEFT keeps a set, whose order differs from process to process.
        config.target_modules = sorted(LINEAR_MODULES)
        config.save_pretrained(str(folder))

    def load(self, folder: Path) -> None:
        """Take the weights that `save` wrote of an adapter of this rank. Raises KeyError or RuntimeError for those of another one."""
        saved = load_file(folder / _WEIGHTS_FILE)
        for name, tensor in self._list_tensors().items():
            tensor.copy_(saved[name])
        self.refresh_copies()

    def adopt(self, folder: Path) -> None:
        """Take the weights of an adapter that was made elsewhere and passed the check, as this one of at least its rank.

        What it does not adapt is zero, a smaller rank is filled up with zeros, and its scales are in B, as vLLM has them: the same
        function. Raises KeyError where a matrix is missing, RuntimeError where one is larger than its place.
        """
        config = parse_adapter_config((folder / _CONFIG_FILE).read_bytes())
        given = load_file(folder / _WEIGHTS_FILE)
        for name, tensor in self._list_tensors().items():
            tensor.zero_()
            if (weight := given.pop(name, None)) is None:
                continue
            scale = config.scale_of(_module_of(name)) / self._scale if ".lora_B." in name else 1.0
            rows, columns = weight.shape
            tensor[:rows, :columns] = weight.float() * scale
        if given:
            raise KeyError(next(iter(given)))
        self.refresh_copies()

    def _list_tensors(self) -> dict[str, torch.Tensor]:
        """Return the masters by PEFT's names; views, not copies."""
        tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(
            self._peft, adapter_name=_ADAPTER_NAME, save_embedding_layers=False
        )
        return tensors

    def _place_parameters(self, num_layers: int) -> dict[tuple[int, str], int]:
        """Point PEFT's parameters at their places in `masters`, by layer and group, all A before all B; return where groups begin."""
        offsets: dict[tuple[int, str], int] = {}
        offset = 0
        for layer in range(num_layers):
            for name, modules in GROUPS.items():
                offsets[layer, name] = offset
                linears = [self._peft_linear(layer, module) for module in modules]
                for holder in [linear.lora_A for linear in linears] + [linear.lora_B for linear in linears]:
                    weight = holder[_ADAPTER_NAME].weight
                    place = self.masters[offset : offset + weight.numel()].view(weight.shape)
                    holder[_ADAPTER_NAME].weight = nn.Parameter(place, requires_grad=False)
                    offset += weight.numel()
        return offsets

    def _initialise(self, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for module in self._peft.modules():
                if hasattr(module, "reset_lora_parameters"):
                    module.reset_lora_parameters(_ADAPTER_NAME, init_lora_weights=True)

    def _view_group(self, offset: int, layer: int, name: str) -> LoraGroup:
        linears = [self._peft_linear(layer, module) for module in GROUPS[name]]
        rows = self._rank * len(linears)
        shapes = [(rows, linears[0].in_features)] + [(linear.out_features, self._rank) for linear in linears]
        copies, grads = _view_at(self._copies, offset, shapes), _view_at(self.gradients, offset, shapes)
        return LoraGroup(copies[0], tuple(copies[1:]), grads[0], tuple(grads[1:]), self._scale)

    def _peft_linear(self, layer: int, module: str) -> LoraLinear:
        linear: LoraLinear = self._peft.get_submodule(f"base_model.model.model.layers.{layer}.{module}")
        return linear


def _attach_to_skeleton(base: FrozenBase, settings: TrainingSettings, base_name: str) -> PeftModel:
    """Let PEFT attach to a model without memory: the weights are held by `base`."""
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=list(LINEAR_MODULES),
        task_type="CAUSAL_LM",
    )
    with torch.device("meta"):
        model = get_peft_model(AutoModelForCausalLM.from_config(base.config), config)
    model.peft_config[_ADAPTER_NAME].base_model_name_or_path = base_name
    return model


def _module_of(tensor_name: str) -> str:
    return tensor_name.removeprefix("base_model.model.").rpartition(".lora_")[0]


def _view_at(flat: torch.Tensor, offset: int, shapes: list[tuple[int, int]]) -> list[torch.Tensor]:
    views = []
    for rows, columns in shapes:
        views.append(flat[offset : offset + rows * columns].view(rows, columns))
        offset += rows * columns
    return views
