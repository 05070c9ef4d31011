"""The training step against others' mathematics: PEFT by autograd, TRL's trainer, and itself cut in other ways."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    get_linear_schedule_with_warmup,
)
from trl import SFTConfig, SFTTrainer

from adaptory.core.base_shape import LINEAR_MODULES
from tests.contracts.training_stand import (
    CPU,
    PLAIN,
    SETTINGS,
    Stand,
    build_base,
    differentiate_by_peft,
    make_rows,
    relative_difference,
)
from trainer_svc.memory.techniques import BasePrecision, Home, MomentPrecision, Recompute
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.architecture import Sight
from trainer_svc.worker.attention import FusedKernel, Heads, PlainKernel
from trainer_svc.worker.base import load_base
from trainer_svc.worker.decoder import Decoder
from trainer_svc.worker.moments import Moments, make_moments
from trainer_svc.worker.offload import open_store
from trainer_svc.worker.optimizer import Optimizer
from trainer_svc.worker.packing import count_learned, measure_pack, pack_rows
from trainer_svc.worker.scratch import Scratch

pytestmark = pytest.mark.filterwarnings("ignore")
NUM_STEPS = 6


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, original and parity."""
    folder = tmp_path_factory.mktemp("llama")
    build_base(folder, "llama")
    return folder


@pytest.fixture(scope="module")
def stand(tiny_base: Path) -> Stand:
    """The tiny Llama at its parity values, with an adapter."""
    return Stand.build(tiny_base)


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def any_stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """A tiny base of each kind of layer at its parity values, with an adapter."""
    folder = tmp_path_factory.mktemp(request.param)
    build_base(folder, request.param)
    return Stand.build(folder)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"])
def test_gradients_are_those_of_autograd_through_peft(model_type: str, tmp_path: Path) -> None:
    """For each architecture, loss and gradients are as near to fp32 autograd as PEFT's own bf16 pass is."""
    build_base(tmp_path, model_type)
    stand, rows = Stand.build(tmp_path), make_rows(4, num_shared=6)
    loss, gradient = stand.differentiate([rows])
    exact_loss, exact = differentiate_by_peft(stand, tmp_path, rows, torch.float32)
    _, rounded = differentiate_by_peft(stand, tmp_path, rows, torch.bfloat16)

    assert loss == pytest.approx(exact_loss, rel=2e-3)
    assert relative_difference(gradient, exact) < 1.2 * relative_difference(rounded, exact) < 0.1


def test_a_pack_has_the_loss_and_gradient_of_its_rows(any_stand: Stand) -> None:
    """Rows that share a beginning give the same packed into one sequence as one by one."""
    rows = make_rows(6, num_shared=12)
    packed_loss, packed = any_stand.differentiate([rows])
    single_loss, single = any_stand.differentiate([[row] for row in rows])

    assert measure_pack(rows).nodes < sum(measure_pack([row]).nodes for row in rows)
    assert packed_loss == pytest.approx(single_loss, rel=1e-3)
    assert relative_difference(packed, single) < 0.02


def test_micro_batches_add_up_to_their_batch(stand: Stand) -> None:
    """Cut into uneven micro-batches, a batch has the same loss and gradient: each token weighs the same."""
    rows = make_rows(7)
    whole_loss, whole = stand.differentiate([rows])
    cut_loss, cut = stand.differentiate([rows[:1], rows[1:4], rows[4:]])

    assert cut_loss == pytest.approx(whole_loss, rel=1e-4)
    assert relative_difference(cut, whole) < 0.02


@pytest.mark.parametrize("recompute", list(Recompute))
@pytest.mark.parametrize("home", [Home.DEVICE, Home.HOST, Home.DISK])
def test_recomputing_and_offloading_change_no_bit(any_stand: Stand, recompute: Recompute, home: Home) -> None:
    """Running layers again, or reading back what they kept, gives the very same gradient as keeping it."""
    packs = [make_rows(4, num_shared=5), make_rows(3, seed=1)]
    kept = any_stand.differentiate(packs)
    again = any_stand.differentiate(packs, replace(PLAIN, recompute=recompute, activations_home=home))

    assert kept[0] == again[0]
    assert torch.equal(kept[1], again[1])


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("num_shared", [0, 6, 30])
@pytest.mark.parametrize("recompute", list(Recompute))
def test_a_step_takes_the_scratch_it_was_planned_to(
    model_type: str, num_shared: int, recompute: Recompute, tmp_path: Path
) -> None:
    """What passes in a step is never more than the layout says, and at most 3 % less: the plan is no guess."""
    build_base(tmp_path, model_type)
    stand, rows = Stand.build(tmp_path), make_rows(5, num_shared=num_shared)
    workplace = stand.take_workplace([rows], replace(PLAIN, recompute=recompute))
    Decoder(stand.base, stand.adapter, workplace).accumulate_gradients(pack_rows(rows, CPU), 1.0)

    scratch = workplace.scratch
    assert scratch.peak_bytes <= scratch.size_bytes <= 1.03 * scratch.peak_bytes + 4096


@pytest.mark.parametrize("precision", [BasePrecision.NF4, BasePrecision.PARITY_BF16])
@pytest.mark.parametrize("home", [Home.HOST, Home.DISK])
def test_offloaded_layers_compute_the_same(
    tiny_base: Path, tmp_path: Path, precision: BasePrecision, home: Home
) -> None:
    """Layers that lie on disk or in host memory give every bit of loss and gradient that resident ones give."""
    packs, stand = [make_rows(4)], Stand.build(tiny_base, precision)
    resident = stand.differentiate(packs)
    is_nf4 = precision is BasePrecision.NF4
    store = open_store(home, tmp_path, 64 * 256) if is_nf4 else None
    folder = tiny_base / ("original" if is_nf4 else "parity")
    base = load_base(folder, precision, CPU, store, streams=not is_nf4)
    streamed = replace(stand, base=base).differentiate(packs, replace(PLAIN, base=precision, frozen_home=home))

    assert resident[0] == streamed[0]
    assert torch.equal(resident[1], streamed[1])


@pytest.mark.parametrize("home", [Home.HOST, Home.DISK])
def test_paged_moments_update_as_resident_ones_do(stand: Stand, tmp_path: Path, home: Home) -> None:
    """Moments that move away between two steps change no bit of the weights."""
    weights = []
    for away in (Home.DEVICE, home):
        adapter = Adapter(stand.base, SETTINGS, "tiny")
        moments = _make_moments(adapter, MomentPrecision.FP32)
        optimizer = Optimizer(adapter, moments, SETTINGS, 4)
        for step in range(4):
            adapter.gradients.copy_(torch.randn(adapter.masters.shape, generator=torch.Generator().manual_seed(step)))
            optimizer.step()
            if step == 1 and away is not Home.DEVICE:
                moments.offload(partial(open_store, away, tmp_path))
        weights.append(adapter.masters.clone())

    assert torch.equal(*weights)


def test_moments_in_8_bits_do_not_stall(stand: Stand) -> None:
    """After steps of like gradients 8-bit moments have led where those in fp32 lead, within 2 % of the way."""
    ways = []
    for precision in MomentPrecision:
        adapter = Adapter(stand.base, SETTINGS, "tiny")
        begun = adapter.masters.clone()
        optimizer = Optimizer(adapter, _make_moments(adapter, precision), SETTINGS, 30)
        for step in range(20):
            noise = torch.randn(adapter.masters.shape, generator=torch.Generator().manual_seed(step))
            adapter.gradients.copy_(1 + 0.3 * noise)
            optimizer.step()
        ways.append(adapter.masters - begun)

    assert relative_difference(ways[1], ways[0]) < 0.02


def test_nf4_computes_with_the_values_of_the_parity_base(tiny_base: Path, stand: Stand) -> None:
    """Training on 4 bits is training on what is served: every bit of loss and gradient agrees."""
    packs = [make_rows(4)]
    nf4 = replace(PLAIN, base=BasePrecision.NF4)
    quantised = Stand.build(tiny_base, BasePrecision.NF4).differentiate(packs, nf4)
    served = stand.differentiate(packs)

    assert quantised[0] == served[0]
    assert torch.equal(quantised[1], served[1])


def test_both_attention_kernels_agree() -> None:
    """The plain kernel of CPUs and the fused one of CUDA give the same values and gradients, in blocks too."""
    torch.manual_seed(0)
    q, k, v = torch.randn(6, 3, 20, 16), torch.randn(6, 20, 16), torch.randn(6, 20, 16)
    grad = torch.randn(q.shape)
    results = []
    sight = Sight(16**-0.5)
    for kernel in (PlainKernel(sight, max_score_elements=2 * 3 * 20 * 20), FusedKernel(sight)):
        heads, scratch = Heads(*(tensor.bfloat16() for tensor in (q, k, v))), Scratch(1 << 20, CPU)
        attended, grads = torch.empty_like(heads.q), Heads(*map(torch.empty_like, (heads.q, heads.k, heads.v)))
        kernel.attend(heads, scratch, attended)
        kernel.differentiate(heads, grad.bfloat16(), scratch, grads)
        results.append((attended, grads.q, grads.k, grads.v))

    for one, other in zip(*results, strict=True):
        assert relative_difference(one.float(), other.float()) < 0.02


def test_a_base_in_fp32_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    """A tensor that is not bf16 would train in a precision nobody planned: loading says which one."""
    tensors = load_file(tiny_base / "parity" / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"].float()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((tiny_base / "parity" / "config.json").read_bytes())

    with pytest.raises(TypeError, match=r"layers\.1\.mlp\.up_proj\.weight is F32"):
        load_base(tmp_path, BasePrecision.PARITY_BF16, CPU)


def test_masters_and_gradients_are_fp32_and_nothing_else_is(stand: Stand) -> None:
    """The adapter sums in fp32, computes in bf16, and no frozen tensor was widened."""
    group = stand.adapter.groups[0]["qkv"]
    frozen = stand.base.layers[0]

    assert {stand.adapter.masters.dtype, stand.adapter.gradients.dtype, group.down_grad.dtype} == {torch.float32}
    computed = (
        group.down,
        *group.ups,
        frozen.input_norm,
        frozen.linears["qkv"].weight.dense(Scratch(0, CPU)),
        stand.base.embedding,
    )
    assert {tensor.dtype for tensor in computed} == {torch.bfloat16}


def test_the_schedule_is_that_of_transformers(stand: Stand) -> None:
    """Learning rates are those of get_linear_schedule_with_warmup, step by step."""
    optimizer = _optimize(Adapter(stand.base, SETTINGS, "tiny"), 20)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=SETTINGS.learning_rate)
    schedule = get_linear_schedule_with_warmup(theirs, num_warmup_steps=4, num_training_steps=20)
    expected = []
    for _ in range(20):
        expected.append(schedule.get_last_lr()[0])
        schedule.step()

    assert [optimizer.step() for _ in range(20)] == pytest.approx(expected)


def test_losses_are_those_of_trl_step_by_step(tiny_base: Path, tmp_path: Path) -> None:
    """On the same rows, order, schedule and initial adapter, each step's loss is TRL's within 0.3 %, while it falls by a fifth.

    TRL trains NF4 with its adapter widened to fp32 masters: left in bf16, its Adam would round the moments.
    """
    rows = make_rows(SETTINGS.batch_rows, num_shared=6, seed=3) * NUM_STEPS
    base = load_base(tiny_base / "original", BasePrecision.NF4, CPU)
    adapter = Adapter(base, SETTINGS, "tiny")
    adapter.save(tmp_path)
    theirs = _train_by_trl(tiny_base, tmp_path, rows)
    ours = _train_by_us(Stand(base, adapter, tmp_path), rows)

    assert ours[-1] < 0.8 * ours[0]
    assert ours == pytest.approx(theirs, rel=3e-3)


def _optimize(adapter: Adapter, num_steps: int) -> Optimizer:
    return Optimizer(adapter, _make_moments(adapter, MomentPrecision.FP32), SETTINGS, num_steps)


def _make_moments(adapter: Adapter, precision: MomentPrecision) -> Moments:
    size = adapter.masters.numel()
    return make_moments(precision, size=size, device=CPU, open_store=partial(open_store, Home.DEVICE, Path()))


def _train_by_us(stand: Stand, rows: list) -> list[float]:
    optimizer = _optimize(stand.adapter, NUM_STEPS)
    batches = [rows[begin : begin + SETTINGS.batch_rows] for begin in range(0, len(rows), SETTINGS.batch_rows)]
    decoder = stand.decode(batches)
    losses = []
    for batch in batches:
        num_learned = count_learned(batch)
        losses.append(decoder.accumulate_gradients(pack_rows(batch, CPU), 1 / num_learned).item() / num_learned)
        optimizer.step()
    return losses


def _train_by_trl(base: Path, adapter: Path, rows: list) -> list[float]:
    columns = [
        {
            "input_ids": list(row.ids),
            "labels": [token if on else -100 for token, on in zip(row.ids, row.learned, strict=True)],
        }
        for row in rows
    ]
    words = Tokenizer(WordLevel({str(index): index for index in range(512)}, unk_token="0"))
    trainer = SFTTrainer(
        model=str(base / "original"),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="2"),
        train_dataset=Dataset.from_list(columns),
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        peft_config=LoraConfig(
            r=SETTINGS.rank, lora_alpha=SETTINGS.alpha, target_modules=list(LINEAR_MODULES), task_type="CAUSAL_LM"
        ),
        args=SFTConfig(
            output_dir=str(adapter / "trl"),
            max_steps=NUM_STEPS,
            per_device_train_batch_size=SETTINGS.batch_rows,
            learning_rate=SETTINGS.learning_rate,
            warmup_steps=2,
            weight_decay=SETTINGS.weight_decay,
            max_grad_norm=SETTINGS.max_grad_norm,
            lr_scheduler_type="linear",
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            max_length=None,
            model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "eager"},
            bf16=True,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        ),
    )
    set_peft_model_state_dict(trainer.model, load_file(adapter / "adapter_model.safetensors"))
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
