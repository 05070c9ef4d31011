"""Training in fp16: the base's values, the steps, the climb and the answers, beside bf16 and fp32 on the CPU."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptory.core.errors import FailedPrecondition
from tests.contracts.training_course import NUM_STEPS, Course, FailingAllocations, read_held_out
from tests.contracts.training_stand import (
    CPU,
    PLAIN,
    Stand,
    build_base,
    differentiate_by_peft,
    make_rows,
    relative_difference,
)
from trainer_svc.jobs.workspace import Rung, Workspace
from trainer_svc.memory.techniques import BasePrecision, ComputePrecision, Home, MomentPrecision, Recompute
from trainer_svc.worker.base import FrozenBase, load_base
from trainer_svc.worker.loss_scale import INITIAL_SCALE, DynamicScaling
from trainer_svc.worker.offload import open_store
from trainer_svc.worker.scratch import Scratch

pytestmark = pytest.mark.filterwarnings("ignore")
FP16 = ComputePrecision.FP16
IN_FP16 = replace(PLAIN, compute=FP16)
# Neighbours of fp16 around 0 are 2^-24 apart; from 2^-17 on these are near enough for bf16's eight bits.
SMALLEST_EXACT, LARGEST_ERROR = 2.0**-17, 2.0**-25
UP_WEIGHT = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A small job, with its base on disk."""
    return Course(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def rungs(course: Course) -> tuple[Rung, ...]:
    """Its ladder on a device that computes in fp16."""
    return course.plan(FP16)


@pytest.fixture
def tiny_base(tmp_path: Path) -> Path:
    """A tiny Llama of its own for each test, original and parity."""
    build_base(tmp_path, "llama")
    return tmp_path


def read_messages(folder: Path) -> list[str]:
    """Return what a run told in sentences."""
    return [progress.message for progress, _ in Workspace(folder).read_progress(0) if progress.message]


def test_the_embedded_base_computes_with_the_values_that_are_served(prepared_base: Path) -> None:
    """A layer's, its norms' and the table's are those of bf16 from 2^-17 on; the few smaller ones are off by 2^-25 at most."""
    served, ours = (
        load_base(prepared_base / "parity", BasePrecision.PARITY_BF16, CPU, compute=compute)
        for compute in ComputePrecision
    )

    require_same_values(served, ours)


@pytest.mark.parametrize("home", [Home.DEVICE, Home.DISK])
def test_nf4_computes_in_fp16_with_the_values_that_are_served(tiny_base: Path, home: Home) -> None:
    """Dequantised by way of bf16, and so the values of the parity base, resident or offloaded."""
    store = open_store(home, tiny_base, 64 * 256)
    served = load_base(tiny_base / "parity", BasePrecision.PARITY_BF16, CPU)
    ours = load_base(tiny_base / "original", BasePrecision.NF4, CPU, store, compute=FP16)

    require_same_values(served, ours)


def require_same_values(served: FrozenBase, ours: FrozenBase) -> None:
    """Fail unless fp16 values are those of bf16, but for the smallest."""
    for theirs, mine in zip(list_values(served), list_values(ours), strict=True):
        assert (theirs.dtype, mine.dtype) == (torch.bfloat16, torch.float16)
        error = (theirs.float() - mine.float()).abs()
        assert error.max() <= LARGEST_ERROR
        assert not error[theirs.float().abs() >= SMALLEST_EXACT].any()
        assert (error > 0).float().mean() < 0.001


def list_values(base: FrozenBase) -> list[torch.Tensor]:
    """Return the tensors of a base that are outside its layers, and those of its first and last layer."""
    values = [base.embedding, base.norm]
    for layer in (base.layers[0], base.layers[-1]):
        dense = [linears.weight.dense(Scratch(0, CPU, base.dtype)) for linears in layer.linears.values()]
        values += [*dense, layer.input_norm, layer.mlp_norm]
    return values


@pytest.mark.parametrize("value", [65536.0, -1e30, math.nan])
@pytest.mark.parametrize("precision", [BasePrecision.PARITY_BF16, BasePrecision.NF4, BasePrecision.INT8])
def test_a_base_with_values_beyond_fp16_is_refused(tiny_base: Path, precision: BasePrecision, value: float) -> None:
    """With the tensor and the number; in bf16, which has the value, the same base loads."""
    folder = tiny_base / ("original" if precision is BasePrecision.NF4 else "parity")
    spoil(folder, value)

    with pytest.raises(FailedPrecondition, match=r"layers\.1\.mlp\.up_proj\.weight .* fp16 ends at 65,504") as refused:
        load_base(folder, precision, CPU, compute=FP16)

    assert refused.value.reason == "BASE_OVERFLOWS_FP16"
    assert load_base(folder, precision, CPU).dtype is torch.bfloat16


def test_a_base_that_is_streamed_is_refused_when_it_is_read(tiny_base: Path) -> None:
    """Its layers are not looked at before; the largest value fp16 shares with bf16 passes."""
    spoil(tiny_base / "parity", 65280.0)
    base = load_base(tiny_base / "parity", BasePrecision.PARITY_BF16, CPU, streams=True, compute=FP16)
    group = base.layers[1].linears["gate_up"].weight
    assert group.dense(Scratch(0, CPU, base.dtype)).max() == 65280.0

    spoil(tiny_base / "parity", 65536.0)
    base = load_base(tiny_base / "parity", BasePrecision.PARITY_BF16, CPU, streams=True, compute=FP16)
    with pytest.raises(FailedPrecondition, match="65,536"):
        base.layers[1].linears["gate_up"].weight.dense(Scratch(0, CPU, base.dtype))


def spoil(folder: Path, value: float) -> None:
    """Give one weight of a base another value."""
    tensors = load_file(folder / "model.safetensors")
    tensors[UP_WEIGHT][3, 5] = value
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_gradients_in_fp16_are_nearer_to_autograd_than_those_in_bf16(model_type: str, tmp_path: Path) -> None:
    """Three more bits: for each architecture at most a third of bf16's distance from PEFT in fp32."""
    build_base(tmp_path, model_type)
    rows, rounded = make_rows(4, num_shared=6), Stand.build(tmp_path)
    exact_loss, exact = differentiate_by_peft(rounded, tmp_path, rows, torch.float32)
    _, in_bf16 = rounded.differentiate([rows])
    loss, in_fp16 = Stand.build(tmp_path, compute=FP16).differentiate([rows], IN_FP16, INITIAL_SCALE)

    assert loss == pytest.approx(exact_loss, rel=2e-4)
    assert relative_difference(in_fp16, exact) < relative_difference(in_bf16, exact) / 3


def test_the_embedded_base_in_fp16_is_nearer_to_fp32(prepared_base: Path, tmp_path: Path) -> None:
    """Thirty layers deep, at the first scale its gradients bear: the loss within 0.05 % of PEFT's in fp32, the gradient within 2 %.

    Both are at most a third as far from it as those in bf16.
    """
    (tmp_path / "parity").symlink_to(prepared_base / "parity")
    rows = make_rows(2, num_shared=6)
    rounded, ours = (Stand.build(prepared_base, compute=compute) for compute in ComputePrecision)
    for stand in (rounded, ours):
        # What an adapter has learned after some steps, not noise that drowns the base.
        stand.adapter.masters.mul_(0.1).copy_(stand.adapter.masters.to(torch.bfloat16))
        stand.adapter.refresh_copies()
    exact_loss, exact = differentiate_by_peft(rounded, tmp_path, rows, torch.float32)
    far_loss, far = rounded.differentiate([rows])
    told: list[str] = []
    gradient = ours.adapter.gradients
    loss = DynamicScaling(told.append).differentiate(
        lambda scale: ours.differentiate([rows], IN_FP16, scale)[0], gradient
    )

    assert told
    assert abs(loss - exact_loss) < min(5e-4 * exact_loss, abs(far_loss - exact_loss) / 3)
    assert relative_difference(gradient, exact) < min(0.02, relative_difference(far, exact) / 3)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"base": BasePrecision.NF4, "micro_batch_rows": 2, "recompute": Recompute.FULL},
        {"base": BasePrecision.NF4, "frozen_home": Home.DISK, "activations_home": Home.DISK},
        {"frozen_home": Home.DISK, "moments_home": Home.DISK, "recompute": Recompute.SELECTIVE},
        {"moments": MomentPrecision.INT8, "micro_batch_rows": 1},
    ],
    ids=str,
)
def test_losses_in_fp16_are_those_in_bf16(
    course: Course, rungs: tuple[Rung, ...], tmp_path: Path, change: dict[str, object]
) -> None:
    """Ten steps by each kind of technique are within 0.2 % of bf16's, which has eight bits."""
    in_fp16 = replace(rungs[0], techniques=replace(rungs[0].techniques, **change))
    in_bf16 = replace(course.rungs[0], techniques=replace(course.rungs[0].techniques, **change))

    expected, _ = course.run(tmp_path / "bf16", [in_bf16])
    losses, ladder = course.run(tmp_path / "fp16", [in_fp16])

    assert ladder.num_climbs == 0
    assert losses == pytest.approx(expected, rel=2e-3)
    assert losses != expected


def test_an_overflow_changes_no_loss(course: Course, rungs: tuple[Rung, ...], tmp_path: Path) -> None:
    """A scale no step bears is halved until one does, each time told; losses are to the last bit those of a run that began there."""
    losses, _ = course.run(tmp_path / "disturbed", rungs[:1], scale=2.0**30)
    told = read_messages(tmp_path / "disturbed")
    borne = float(told[-1].rpartition(" ")[2].rstrip(".").replace(",", ""))

    expected, _ = course.run(tmp_path / "undisturbed", rungs[:1], scale=borne)

    assert len(told) == round(30 - math.log2(borne)) > 10
    assert told[0].startswith("Gradients left the range of fp16 at a loss scale of 1,073,741,824;")
    assert read_messages(tmp_path / "undisturbed") == []
    assert losses == expected


def test_overflows_and_failed_allocations_change_no_loss(
    course: Course, rungs: tuple[Rung, ...], tmp_path: Path
) -> None:
    """While the scale falls in the first steps memory runs out on each rung: losses stay those of the undisturbed run."""
    expected, _ = course.run(tmp_path / "undisturbed", rungs)
    failures = FailingAllocations()
    failures.fail_in(400)
    with failures:
        losses, ladder = course.run(
            tmp_path / "disturbed",
            rungs,
            lambda done: failures.fail_in(150) if done < len(rungs) - 1 else None,
            scale=2.0**20,
        )

    assert ladder.num_climbs == len(rungs) - 1 >= 7
    assert any("loss scale" in message for message in read_messages(tmp_path / "disturbed"))
    assert losses == pytest.approx(expected, rel=2e-3)


def test_the_best_adapter_is_the_first_candidate(course: Course, rungs: tuple[Rung, ...], tmp_path: Path) -> None:
    """Measured after each step, held-out losses are within 0.2 % of bf16's."""
    every = range(1, NUM_STEPS + 1)
    course.run(tmp_path / "bf16", course.rungs[:1], measured_steps=every)
    course.run(tmp_path / "fp16", rungs[:1], measured_steps=every)
    expected, measured = (read_held_out(tmp_path / name) for name in ("bf16", "fp16"))
    best = measured.index(min(measured)) + 1

    assert len(measured) == NUM_STEPS > best
    assert measured == pytest.approx(expected, rel=2e-3)
    assert course.candidate_steps[0] == best


@pytest.mark.parametrize("place", ["model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight"])
def test_activations_beyond_fp16_fail_the_job_with_a_way_out(tmp_path: Path, place: str) -> None:
    """A residual stream that overflows, as it would whatever the scale: bf16 trains the same base on."""
    course = Course(tmp_path)
    swell(course.prepared.parity_dir, place)

    with pytest.raises(FailedPrecondition, match="train on a device that computes in bf16") as failed:
        course.run(tmp_path / "fp16", course.plan(FP16)[:1])
    losses, _ = course.run(tmp_path / "bf16", course.rungs[:1])

    assert (failed.value.reason, failed.value.metadata["loss"]) == ("FP16_OVERFLOW", "nan")
    assert all(map(math.isfinite, losses))


def swell(folder: Path, name: str) -> None:
    """Make the values of a tensor so large that sums of them leave fp16, and none itself."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name].mul_(50_000 / tensors[name].abs().max())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("compute", list(ComputePrecision))
def test_what_is_judged_is_what_is_served(tiny_base: Path, tmp_path: Path, compute: ComputePrecision) -> None:
    """After training, copies have the values of the file that `save` writes, wherever the masters were in between."""
    stand = Stand.build(tiny_base, compute=compute)
    stand.adapter.masters.mul_(1 + 2.0**-10)
    stand.adapter.round_as_served()
    folder = tmp_path / "adapter"
    folder.mkdir()
    stand.adapter.save(folder)

    saved = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"
    down = stand.adapter.groups[0]["output"].down
    assert saved[name].dtype is torch.bfloat16
    assert torch.equal(down, saved[name].to(down.dtype))
