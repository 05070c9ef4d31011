"""The simulated step against the sums plans are made of: two ways to the same bytes."""

from dataclasses import replace

import pytest

from trainer_svc.memory.estimator import estimate
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import (
    BasePrecision,
    ComputePrecision,
    DeviceKind,
    Home,
    MomentPrecision,
    Recompute,
    Techniques,
)
from trainer_svc.memory.workload import measure_lengths
from trainer_svc.worker.simulation import StepQuestion, simulate_step

RANK = 16
LLAMA = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
    "max_position_embeddings": 2048,
}
QWEN = {**LLAMA, "model_type": "qwen3", "head_dim": 64, "tie_word_embeddings": True}
GEMMA = {
    **LLAMA,
    "model_type": "gemma3_text",
    "num_key_value_heads": 2,
    "head_dim": 96,
    "vocab_size": 32768,
    "sliding_window": 64,
    "tie_word_embeddings": True,
}
OFFLOADED = Techniques(BasePrecision.NF4, 2, Recompute.FULL, 32, MomentPrecision.FP32, Home.DISK, Home.DISK, Home.DISK)


@pytest.mark.parametrize(
    ("config", "techniques"),
    [
        (LLAMA, Techniques(BasePrecision.NF4, 2, Recompute.FULL)),
        (LLAMA, Techniques(BasePrecision.PARITY_BF16, 4)),
        (LLAMA, OFFLOADED),
        (LLAMA, replace(OFFLOADED, compute=ComputePrecision.FP16)),
        (QWEN, Techniques(BasePrecision.NF4, 2)),
        (QWEN, Techniques(BasePrecision.NF4, 2, compute=ComputePrecision.FP16)),
        (QWEN, Techniques(BasePrecision.INT8, 2, Recompute.SELECTIVE)),
        (GEMMA, Techniques(BasePrecision.NF4, 2, Recompute.FULL)),
        (GEMMA, Techniques(BasePrecision.PARITY_BF16, 4)),
        (GEMMA, OFFLOADED),
    ],
)
@pytest.mark.parametrize(("length", "shared"), [(256, 0), (96, 40)])
def test_terms_agree_with_the_simulated_step(
    config: dict[str, object], techniques: Techniques, length: int, shared: int
) -> None:
    """Within 5 % in all, the part that only the process has left out, and what lasts to the byte or nearly so."""
    lengths = [length] * techniques.micro_batch_rows
    question = StepQuestion(config, techniques, [lengths], RANK, shared)

    simulated = simulate_step(question)
    terms = estimate(
        ModelShape.from_config(config),
        techniques,
        [measure_lengths(lengths, shared)],
        rank=RANK,
        device=DeviceKind.CPU,
        num_sizes=(1, 1),
    ).terms

    assert sum(terms.values()) - terms["context"] == pytest.approx(simulated.peak_bytes, rel=0.05)
    assert terms["frozen_weights"] == pytest.approx(simulated.parts["frozen_weights"], rel=0.01)
    assert terms["adapter"] + terms["gradients"] == simulated.parts["adapter_and_gradients"]
    assert terms["checkpoints"] + terms["layer_activations"] == simulated.parts["tape"]
