"""`python -m bench.trl_peer WORKSPACE_DIR`: what our worker is asked to train, trained by TRL's SFTTrainer.

Reads the same spec, renders the same rows into the same batches, starts from the same adapter weights, and reports steps and
peaks in the same files through the same meter; it neither evaluates nor saves.

Settings tried on two cores (EPYC, AVX-512 BF16) with SmolLM2-135M, 8 unshared rows of 60 tokens a step, NF4, 5 timed steps:
tokens/s and the peak in MiB as our worker's meter counted it then. Each number is one run, and equal settings differed by up to
42 % between runs, so the order of the first six is not certain; what was chosen had the best run, and the lowest peak without
checkpointing.
    padding-free, no autocast                  180, 145   1294, 1437   chosen
    no autocast                                169, 119   1623, 1625
    no autocast, eager attention               168        1748
    padding-free                               166, 146   1463, 1468
    TRL's defaults without checkpointing       159, 141   1663, 1645
    eager attention                            152        1765
    adamw_8bit                                 149        1654
    padded to multiples of 32, 256 kernels     130        1752         fewer oneDNN kernels kept, as our worker does
    gradient checkpointing (TRL's default)     124         918
    two dataloader workers                     119        1627
    padded to multiples of 32, no autocast     116        1857
    padding-free, no autocast, eager           110        1835         others took 17 % of the cores
    padded to multiples of 32                  100        1902
LoRA on the same base in bf16, which is not QLoRA, was no faster: 163 padding-free without autocast, 141 with TRL's defaults.
Without flash attention transformers masks padding-free rows by their positions; first losses agree with padded ones.
torch.compile was left out, since compiling takes minutes. Mean losses of the bf16 variants were within 0.3 % of each other.
"""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from transformers import AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from transformers.integrations import bitsandbytes as _  # noqa: F401 - loaded lazily, and belongs below the memory baseline
from trl import SFTConfig, SFTTrainer

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import RenderedRow
from trainer_svc.bots.row_rendering import RowRenderer
from trainer_svc.jobs.workspace import (
    ExitCode,
    Phase,
    TrainingSettings,
    WorkerResult,
    WorkerSpec,
    Workspace,
)
from trainer_svc.memory.techniques import BasePrecision
from trainer_svc.worker.device import open_device
from trainer_svc.worker.meter import Meter
from trainer_svc.worker.rows import load_rows, order_batches

_UNLEARNED = -100


def main(folder: Path) -> ExitCode:
    """Train what the workspace's spec says and leave the result there."""
    workspace = Workspace(folder)
    spec = workspace.read_spec()
    device, memory = open_device()
    meter = Meter(workspace, memory)
    with meter.measure(Phase.LOAD):
        batches = _read_batches(spec)
        trainer = _build_trainer(spec, batches, device, meter)
        _initialise(trainer.model, spec.training.seed)
    with meter.measure(Phase.STEP):
        trainer.train()
    workspace.write_result(
        WorkerResult(
            ExitCode.SUCCEEDED,
            train_losses=meter.train_losses,
            num_steps=len(meter.train_losses),
        )
    )
    return ExitCode.SUCCEEDED


class _Reporter(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Reports each step as our worker does; the clock runs from report to report, so that nothing between steps is left out."""

    def __init__(self, meter: Meter, batches: Sequence[Sequence[RenderedRow]]) -> None:
        self._meter = meter
        self._batches = batches

    def on_log(
        self, _args: object, _state: object, _control: object, logs: dict[str, float], **_unused: object
    ) -> None:
        """Report the step that was logged; the last log of a run is its summary and has no loss of a step."""
        if "loss" in logs:
            rows = self._batches[len(self._meter.train_losses)]
            self._meter.count(num_rows=len(rows), num_tokens=sum(len(row.ids) for row in rows))
            self._meter.report_step(
                num_steps=len(self._batches), loss=logs["loss"], learning_rate=logs["learning_rate"]
            )


def _read_batches(spec: WorkerSpec) -> list[Sequence[RenderedRow]]:
    prepared = PreparedBase.open(Path(spec.base_dir))
    renderer = RowRenderer.of(prepared)
    rows = load_rows(Path(spec.train_rows), renderer, spec.training.max_row_tokens).rows
    return list(order_batches(rows, spec.training))


def _build_trainer(
    spec: WorkerSpec, batches: Sequence[Sequence[RenderedRow]], device: torch.device, meter: Meter
) -> SFTTrainer:
    prepared = PreparedBase.open(Path(spec.base_dir))
    is_nf4 = spec.memory.techniques.base is BasePrecision.NF4
    folder = prepared.original_dir if is_nf4 else prepared.parity_dir
    settings = spec.training
    return SFTTrainer(
        model=str(folder),
        args=_configure(settings, len(batches), device, Path(spec.train_rows).parent / "trl"),
        train_dataset=Dataset.from_list([_label(row) for batch in batches for row in batch]),
        processing_class=AutoTokenizer.from_pretrained(folder),
        quantization_config=_quantise() if is_nf4 else None,
        peft_config=LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[_Reporter(meter, batches)],
    )


def _configure(settings: TrainingSettings, num_steps: int, device: torch.device, output_dir: Path) -> SFTConfig:
    return SFTConfig(
        output_dir=str(output_dir),
        max_steps=num_steps,
        per_device_train_batch_size=settings.batch_rows,
        train_sampling_strategy="sequential",
        padding_free=True,
        max_length=None,
        # The model is bf16 throughout: autocast would only cast what needs no cast.
        bf16=False,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(num_steps * settings.warmup_share),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        # TRL's own default is fp32, also for what is not quantised.
        model_init_kwargs={"dtype": "bfloat16"},
        gradient_checkpointing=False,
        use_cpu=device.type == "cpu",
        seed=settings.seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _quantise() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _label(row: RenderedRow) -> dict[str, list[int]]:
    labels = [token if learned else _UNLEARNED for token, learned in zip(row.ids, row.learned, strict=True)]
    return {"input_ids": list(row.ids), "labels": labels}


def _initialise(model: torch.nn.Module, seed: int) -> None:
    """Give the adapters the values that our worker begins with: PEFT's own, drawn in fp32 in the order of the modules."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, LoraLayer):
                with _widened(module.lora_A):
                    module.reset_lora_parameters("default", init_lora_weights=True)


@contextmanager
def _widened(module: torch.nn.Module) -> Iterator[None]:
    dtype = next(module.parameters()).dtype
    module.float()
    yield
    module.to(dtype)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(main(Path(sys.argv[1])))
