"""The plans a memory limit leads to."""

import pytest

from adaptory.core.errors import DoesNotFit
from trainer_svc.jobs.workspace import BasePrecision
from trainer_svc.memory.estimator import DeviceKind, ModelShape
from trainer_svc.memory.planner import MemoryPlan, PlanRequest, plan_memory

LLAMA_7B = ModelShape.from_config(
    {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    }
)
GIB = 1 << 30


def _plan(
    limit_bytes: int, *, device: DeviceKind = DeviceKind.CPU, rank: int = 16, row_tokens: int = 512
) -> MemoryPlan:
    return plan_memory(LLAMA_7B, PlanRequest(limit_bytes, rank, 8, [row_tokens] * 100, device=device))


def test_terms_add_up_to_the_prediction() -> None:
    """The peak is explained to the last byte."""
    plan = _plan(64 * GIB)

    assert sum(plan.terms.values()) == plan.predicted_peak_bytes <= 64 * GIB


def test_frozen_weights_of_7b_are_those_of_the_nf4_guide() -> None:
    """6.48 billion quantised parameters at 4.127 bits and two bf16 tables: what NVIDIA's QLoRA guide publishes per parameter."""
    plan = _plan(12 * GIB, device=DeviceKind.CUDA)
    num_linear, num_other = 6_476_267_520, 262_410_240

    assert plan.terms["frozen_weights"] == pytest.approx(num_linear * 4.127 / 8 + num_other * 2, rel=1e-3)


def test_with_room_the_fastest_plan_is_taken() -> None:
    """Whole batches, nothing run again, and on a CPU the base in bf16."""
    plan = _plan(128 * GIB)

    assert (plan.base_precision, plan.checkpointing, plan.micro_batch_rows) == (BasePrecision.PARITY_BF16, False, 8)


def test_a_tighter_limit_gives_up_speed_in_order() -> None:
    """First bf16, then kept activations, then whole batches; the effective batch stays."""
    ladder = {
        (plan.base_precision, plan.checkpointing, plan.micro_batch_rows): plan.accumulation * plan.micro_batch_rows
        for plan in (_plan(gib * GIB) for gib in range(80, 6, -1))
    }
    rungs = list(ladder)

    assert rungs[0] == (BasePrecision.PARITY_BF16, False, 8)
    assert rungs.index((BasePrecision.NF4, False, 8)) < rungs.index((BasePrecision.NF4, True, 8)) < len(rungs) - 1
    assert set(ladder.values()) == {8}


def test_cuda_never_holds_the_base_in_bf16() -> None:
    """On a device memory is dear and dequantising cheap."""
    assert _plan(128 * GIB, device=DeviceKind.CUDA).base_precision is BasePrecision.NF4


def test_without_a_plan_the_smallest_limit_is_named() -> None:
    """The limit named in the error is one with which a plan is found, and a byte less is not."""
    with pytest.raises(DoesNotFit) as refused:
        _plan(1 * GIB)
    smallest = int(refused.value.metadata["smallest_limit_bytes"])

    assert _plan(smallest).predicted_peak_bytes == smallest
    with pytest.raises(DoesNotFit):
        _plan(smallest - 1)


@pytest.mark.parametrize("change", [{"rank": 64}, {"row_tokens": 1024}])
def test_more_to_train_takes_more(change: dict[str, int]) -> None:
    """A higher rank or longer rows raise the smallest limit."""
    assert _plan(128 * GIB, **change).smallest_limit_bytes > _plan(128 * GIB).smallest_limit_bytes


def test_shared_beginnings_are_counted_once() -> None:
    """Rows that begin alike keep fewer activations."""
    apart = plan_memory(LLAMA_7B, PlanRequest(128 * GIB, 16, 8, [512] * 9))
    alike = plan_memory(LLAMA_7B, PlanRequest(128 * GIB, 16, 8, [512] * 9, shared_tokens=256))

    assert alike.terms["kept_activations"] < 0.6 * apart.terms["kept_activations"]


def test_a_plan_without_rows_is_a_mistake() -> None:
    """There is nothing to plan for."""
    with pytest.raises(ValueError, match="at least one row"):
        plan_memory(LLAMA_7B, PlanRequest(GIB, 16, 8, []))
