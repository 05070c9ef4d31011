"""A tiny base, prepared as the real one is, and rows to train on: what the contract suites of the training step run with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from bitsandbytes import functional as nf4
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from adaptory.core.base_shape import LINEAR_MODULES
from adaptory.core.prompting import RenderedRow
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.layout import count_scratch, lay_out_tape
from trainer_svc.memory.techniques import BasePrecision, ComputePrecision, DeviceKind, MomentPrecision, Techniques
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.base import GROUPS, FrozenBase, load_base
from trainer_svc.worker.decoder import Decoder, Workplace
from trainer_svc.worker.moments import make_moments
from trainer_svc.worker.offload import open_store
from trainer_svc.worker.optimizer import Optimizer
from trainer_svc.worker.packing import count_learned, measure_pack, pack_rows
from trainer_svc.worker.scratch import Scratch
from trainer_svc.worker.tape import Tape

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(rank=8, alpha=24, learning_rate=1e-2, batch_rows=4, warmup_share=0.2)
PLAIN = Techniques(BasePrecision.PARITY_BF16, micro_batch_rows=4)
_SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
# A window that most rows are longer than, a scale that is not the heads', and a hidden size whose root bf16 must round.
_GEMMA3 = {
    "hidden_size": 128,
    "head_dim": 32,
    "query_pre_attn_scalar": 24,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_OWN_SIZES = {"gemma3_text": _GEMMA3}


def build_base(folder: Path, model_type: str) -> None:
    """Write a random model of an architecture as `original` and, at its dequantised NF4 values, as `parity`."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**_SIZES, **_OWN_SIZES.get(model_type, {})})
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    if model_type in _OWN_SIZES:
        # Gemma's norms begin at 0, which would hide how they are weighed.
        norms = (parameter for name, parameter in model.named_parameters() if "norm" in name)
        for weight in norms:
            weight.data.normal_(0, 0.3)
    model.save_pretrained(folder / "original")
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in LINEAR_MODULES:
            codes, state = nf4.quantize_4bit(
                module.weight.data, blocksize=64, compress_statistics=True, quant_type="nf4"
            )
            module.weight.data = nf4.dequantize_4bit(codes, state)
    model.save_pretrained(folder / "parity")


def make_rows(num_rows: int, *, num_shared: int = 0, seed: int = 0) -> list[RenderedRow]:
    """Return random rows of 10 to 40 tokens behind `num_shared` common ones; the last third of each is learned."""
    dice = torch.Generator().manual_seed(seed)
    beginning = torch.randint(3, 512, (num_shared,), generator=dice).tolist()
    rows = []
    for _ in range(num_rows):
        length = int(torch.randint(10, 41, (1,), generator=dice))
        ids = beginning + torch.randint(3, 512, (length,), generator=dice).tolist()
        rows.append(RenderedRow(tuple(ids), tuple(place >= len(ids) - length // 3 for place in range(len(ids)))))
    return rows


@dataclass(frozen=True)
class Stand:
    """A base with an adapter that is no longer zero, ready for one step."""

    base: FrozenBase
    adapter: Adapter
    folder: Path

    @classmethod
    def build(
        cls,
        folder: Path,
        precision: BasePrecision = BasePrecision.PARITY_BF16,
        compute: ComputePrecision = ComputePrecision.BF16,
    ) -> "Stand":
        """Load the base in `folder` and disturb a fresh adapter, the same way each time."""
        part = "original" if precision is BasePrecision.NF4 else "parity"
        base = load_base(folder / part, precision, CPU, compute=compute)
        adapter = Adapter(base, SETTINGS, "tiny")
        noise = torch.randn(adapter.masters.shape, generator=torch.Generator().manual_seed(1))
        # Rounded to bf16, so that what is saved is what was computed with.
        adapter.masters.add_(0.05 * noise).copy_(adapter.masters.to(torch.bfloat16))
        adapter.refresh_copies()
        return cls(base, adapter, folder)

    def decode(self, packs: Sequence[Sequence[RenderedRow]], techniques: Techniques = PLAIN) -> Decoder:
        """Return a decoder with room for these packs, each by itself."""
        return Decoder(self.base, self.adapter, self.take_workplace(packs, techniques))

    def take_workplace(self, packs: Sequence[Sequence[RenderedRow]], techniques: Techniques = PLAIN) -> Workplace:
        """Return tape and scratch for these packs."""
        shape, sizes = self.base.shape, [measure_pack(rows) for rows in packs]
        widths = lay_out_tape(shape, SETTINGS.rank, techniques.recompute)
        max_nodes = max(size.nodes for size in sizes)
        store = open_store(techniques.activations_home, self.folder, 2 * max_nodes * sum(widths.record.values()))
        scratch_bytes = max(
            count_scratch(shape, techniques, size, rank=SETTINGS.rank, device=DeviceKind.CPU) for size in sizes
        )
        tape = Tape(
            widths, num_layers=shape.num_layers, max_nodes=max_nodes, device=CPU, store=store, dtype=self.base.dtype
        )
        scratch = Scratch(scratch_bytes, CPU, self.base.dtype)
        return Workplace(tape, scratch, techniques.recompute, techniques.loss_block_tokens)

    def differentiate(
        self, packs: Sequence[Sequence[RenderedRow]], techniques: Techniques = PLAIN, scale: float = 1.0
    ) -> tuple[float, torch.Tensor]:
        """Return the mean loss of all packs and its gradient by the adapter, which is computed at a scale of the loss."""
        decoder = self.decode(packs, techniques)
        num_learned = sum(map(count_learned, packs))
        self.adapter.gradients.zero_()
        loss = sum(decoder.accumulate_gradients(pack_rows(rows, CPU), scale / num_learned).item() for rows in packs)
        return loss / num_learned, self.adapter.gradients / scale


def teach(stand: Stand, rows: Sequence[RenderedRow], num_steps: int = 4) -> None:
    """Train a stand's adapter on the same rows for some steps, and leave it rounded as it would be saved."""
    size = stand.adapter.masters.numel()
    moments = make_moments(MomentPrecision.FP32, size=size, device=CPU, open_store=lambda _: None)
    optimizer = Optimizer(stand.adapter, moments, SETTINGS, num_steps)
    for _ in range(num_steps):
        stand.differentiate([rows])
        optimizer.step()
    stand.adapter.masters.copy_(stand.adapter.masters.to(torch.bfloat16))
    stand.adapter.refresh_copies()


def mean_loss_of(model: PreTrainedModel, rows: Sequence[RenderedRow]) -> torch.Tensor:
    """Return the mean loss of rows under a transformers model, one row after the other."""
    losses = []
    for row in rows:
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].float()
        learned = torch.tensor(row.learned[1:])
        losses.append(
            torch.nn.functional.cross_entropy(logits[learned], torch.tensor(row.ids[1:])[learned], reduction="sum")
        )
    return torch.stack(losses).sum() / count_learned(rows)


def differentiate_by_peft(
    stand: Stand, folder: Path, rows: Sequence[RenderedRow], dtype: torch.dtype
) -> tuple[float, torch.Tensor]:
    """Return loss and gradient of PEFT on transformers' own model, in the order of our flat gradient."""
    saved = folder / f"adapter-{dtype}".replace(".", "-")
    saved.mkdir()
    stand.adapter.save(saved)
    model = AutoModelForCausalLM.from_pretrained(folder / "parity", dtype=dtype, attn_implementation="eager")
    model = PeftModel.from_pretrained(model, saved, is_trainable=True, autocast_adapter_dtype=False)
    model = model.to(dtype)
    loss = mean_loss_of(model, rows)
    loss.backward()
    parts = []
    for layer in range(stand.base.shape.num_layers):
        for modules in GROUPS.values():
            linears = [model.get_submodule(f"base_model.model.model.layers.{layer}.{module}") for module in modules]
            for name in ("lora_A", "lora_B"):
                parts += [getattr(linear, name)["default"].weight.grad.float().flatten() for linear in linears]
    return loss.item(), torch.cat(parts)


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return |one - other| / |other|."""
    return ((one - other).norm() / other.norm()).item()
