"""The plans a memory limit leads to."""

from dataclasses import replace

import pytest

from adaptory.core.errors import DoesNotFit
from trainer_svc.memory.planner import MemoryPlan, plan_memory, rank_plans
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.speed import assume_speed
from trainer_svc.memory.techniques import (
    FEW_KERNEL_SIZES,
    MANY_KERNEL_SIZES,
    BasePrecision,
    ComputePrecision,
    DeviceKind,
    MomentPrecision,
    Techniques,
    away_from,
    describe,
)

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
LLAMA_13B = replace(
    LLAMA_7B, hidden_size=5120, intermediate_size=13824, num_layers=40, num_heads=40, num_kv_heads=40, head_dim=128
)
GIB = 1 << 30


def _plan(
    limit_bytes: int,
    *,
    device: DeviceKind = DeviceKind.CPU,
    rank: int = 16,
    row_tokens: int = 512,
    may_offload: bool = True,
) -> MemoryPlan:
    return plan_memory(
        LLAMA_7B, PlanRequest(limit_bytes, rank, 8, [[row_tokens] * 8] * 12, device=device, may_offload=may_offload)
    )


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

    assert plan.techniques == Techniques(BasePrecision.PARITY_BF16, micro_batch_rows=8)


def test_a_tighter_limit_gives_up_speed_and_then_what_is_kept_on_the_device() -> None:
    """Of what stays on the device the fastest is taken, so a tighter limit is never faster; only then is anything offloaded."""
    plans = [_plan(gib * GIB) for gib in range(100, 3, -1)]
    resident = [plan.seconds for plan in plans if not plan.techniques.offloads]

    assert resident == sorted(resident)
    assert len(set(resident)) > 4
    assert [plan.techniques.offloads for plan in plans] == sorted(plan.techniques.offloads for plan in plans)
    assert plans[-1].techniques.offloads
    assert {plan.accumulation * plan.techniques.micro_batch_rows for plan in plans} == {8}


def test_moments_are_rounded_before_anything_is_offloaded_and_after_all_else() -> None:
    """8-bit moments change the numbers trained, so they come late; they come before offload, as the ladder of the field has it."""
    request = PlanRequest(80 * GIB, 16, 8, [[512] * 8], device=DeviceKind.CUDA, may_offload=False)
    smallest = plan_memory(LLAMA_7B, request).smallest_limit_bytes

    tightest = plan_memory(LLAMA_7B, replace(request, limit_bytes=smallest, may_offload=True))

    assert tightest.techniques.moments is MomentPrecision.INT8
    assert not tightest.techniques.offloads
    assert plan_memory(LLAMA_7B, replace(request, limit_bytes=5 * GIB)).techniques.moments is MomentPrecision.FP32


def test_a_slow_disk_makes_streaming_dear() -> None:
    """What is fastest depends on the machine: seconds are those of its measured speed."""
    fast = assume_speed(DeviceKind.CPU)
    request = PlanRequest(3 * GIB, 16, 8, [[512] * 8], speed=fast)
    slow = replace(request, speed=replace(fast, moved_bytes=fast.moved_bytes / 100))

    assert plan_memory(LLAMA_7B, slow).seconds > 2 * plan_memory(LLAMA_7B, request).seconds


def test_rows_of_many_lengths_take_more_for_kernels_and_keep_few_where_it_is_tight() -> None:
    """A CPU's matrix library keeps kernels for each size it meets: of six sizes with room, of two under the smallest limit."""
    alike = PlanRequest(80 * GIB, 16, 8, [[512] * 8] * 8)
    various = replace(alike, batches=[[256 + 32 * step] * 8 for step in range(9)] * 4)
    roomy = plan_memory(LLAMA_7B, various)

    tight = plan_memory(LLAMA_7B, replace(various, limit_bytes=roomy.smallest_limit_bytes))

    assert roomy.terms["context"] > 2 * plan_memory(LLAMA_7B, alike).terms["context"]
    assert (roomy.techniques.kernel_sizes, tight.techniques.kernel_sizes) == (MANY_KERNEL_SIZES, FEW_KERNEL_SIZES)


def test_what_earlier_jobs_took_beyond_the_prediction_is_planned_for() -> None:
    """The residual goes into the context, of which half is always kept."""
    request = PlanRequest(80 * GIB, 16, 8, [[512] * 8])
    plan, more, less = (
        plan_memory(LLAMA_7B, replace(request, residual_bytes=residual)) for residual in (0, 50_000_000, -(1 << 40))
    )

    assert more.predicted_peak_bytes == plan.predicted_peak_bytes + 50_000_000
    assert less.terms["context"] == plan.terms["context"] // 2


def test_cuda_never_holds_the_base_in_bf16() -> None:
    """On a device memory is dear and dequantising cheap."""
    assert _plan(128 * GIB, device=DeviceKind.CUDA).techniques.base is BasePrecision.NF4


@pytest.mark.parametrize("device", list(DeviceKind))
def test_what_is_computed_in_is_the_devices_and_the_same_on_every_rung(device: DeviceKind) -> None:
    """No plan chooses it for speed or size, no climb changes it; people are told where it is not bf16."""
    request = PlanRequest(16 * GIB, 16, 8, [[512] * 8], device=device, compute=ComputePrecision.FP16)
    plans = rank_plans(LLAMA_7B, request)
    techniques = [rung.techniques for plan in plans for rung in plan.rungs]

    assert {each.compute for each in techniques} == {ComputePrecision.FP16}
    assert all("computed in fp16 with a scaled loss" in describe(each) for each in techniques)
    assert "fp16" not in describe(_plan(16 * GIB, device=device).techniques)


def test_a_cpu_takes_as_much_in_fp16() -> None:
    """Two bytes are two bytes, and scaling keeps nothing."""
    request = PlanRequest(64 * GIB, 16, 8, [[512] * 8])
    in_fp16 = plan_memory(LLAMA_7B, replace(request, compute=ComputePrecision.FP16))

    assert in_fp16.terms == plan_memory(LLAMA_7B, request).terms


def test_a_card_without_flash_attention_is_planned_to_hold_blocks_of_scores() -> None:
    """Scores of 2,048 tokens, in blocks, in place of what FlashAttention takes: a T4's 16 GB have room for 7B all the same."""
    request = PlanRequest(14 * GIB, 16, 8, [[2048] * 8], device=DeviceKind.CUDA, may_offload=False)
    recent = plan_memory(LLAMA_7B, request)
    older = plan_memory(LLAMA_7B, replace(request, compute=ComputePrecision.FP16))
    passing = ("backward_transients", "dequantised_weight", "loss")

    assert replace(older.techniques, compute=ComputePrecision.BF16) == recent.techniques
    assert older.terms != recent.terms
    assert {name: size for name, size in older.terms.items() if name not in passing} == {
        name: size for name, size in recent.terms.items() if name not in passing
    }


def test_without_a_plan_the_smallest_limit_is_named() -> None:
    """The limit named in the error is one with which a plan is found, and a byte less is not."""
    with pytest.raises(DoesNotFit) as refused:
        _plan(1 * GIB)
    smallest = int(refused.value.metadata["smallest_limit_bytes"])

    assert 0 < smallest - _plan(smallest).predicted_peak_bytes < 100_000_000
    with pytest.raises(DoesNotFit):
        _plan(smallest - 1)


@pytest.mark.parametrize("change", [{"rank": 64}, {"row_tokens": 1024}])
def test_more_to_train_takes_more(change: dict[str, int]) -> None:
    """A higher rank or longer rows raise the smallest limit."""
    assert _plan(128 * GIB, **change).smallest_limit_bytes > _plan(128 * GIB).smallest_limit_bytes


def test_shared_beginnings_are_counted_once() -> None:
    """Rows that begin alike keep fewer activations."""
    apart = plan_memory(LLAMA_7B, PlanRequest(128 * GIB, 16, 8, [[512] * 8]))
    alike = plan_memory(LLAMA_7B, PlanRequest(128 * GIB, 16, 8, [[512] * 8], shared_tokens=256))

    assert alike.terms["checkpoints"] < 0.6 * apart.terms["checkpoints"]


def test_a_plan_without_rows_is_a_mistake() -> None:
    """There is nothing to plan for."""
    with pytest.raises(ValueError, match="at least one row"):
        plan_memory(LLAMA_7B, PlanRequest(GIB, 16, 8, []))


@pytest.mark.parametrize("device", list(DeviceKind))
@pytest.mark.parametrize(("shape", "limit_gib"), [(LLAMA_7B, 8), (LLAMA_13B, 12)])
def test_llama_2_fits_where_it_is_promised_to(shape: ModelShape, limit_gib: int, device: DeviceKind) -> None:
    """7B in 8 GiB and 13B in 12 GiB, at 2,048 tokens, with nothing offloaded."""
    request = PlanRequest(limit_gib * GIB, 16, 8, [[2048] * 8], device=device, may_offload=False)
    plan = plan_memory(shape, request)

    assert plan.predicted_peak_bytes <= limit_gib * GIB
    assert not plan.techniques.offloads


@pytest.mark.parametrize("device", list(DeviceKind))
def test_13b_in_8_gib_needs_its_layers_streamed(device: DeviceKind) -> None:
    """Without offload it is refused with the smallest limit that would do; with it, the layers leave the device."""
    request = PlanRequest(8 * GIB, 16, 8, [[2048] * 8], device=device, may_offload=False)
    with pytest.raises(DoesNotFit) as refused:
        plan_memory(LLAMA_13B, request)
    smallest = int(refused.value.metadata["smallest_limit_bytes"])

    assert 8 * GIB < smallest <= 12 * GIB
    streamed = plan_memory(LLAMA_13B, replace(request, may_offload=True))
    assert streamed.predicted_peak_bytes <= 8 * GIB
    assert streamed.techniques.frozen_home is away_from(device)


@pytest.mark.parametrize("device", list(DeviceKind))
def test_a_ladder_only_ever_takes_less_and_trains_the_same(device: DeviceKind) -> None:
    """Each rung's peak is below the one before; moments keep their precision, since another would change the numbers."""
    rungs = _plan(100 * GIB, device=device).rungs
    peaks = [rung.predicted_peak_bytes for rung in rungs]

    assert peaks == sorted(set(peaks), reverse=True)
    assert len(peaks) > 6
    assert {rung.techniques.moments for rung in rungs} == {rungs[0].techniques.moments}
    assert rungs[-1].techniques.frozen_home is away_from(device)
