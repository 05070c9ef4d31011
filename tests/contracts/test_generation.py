"""Our incremental decode beside transformers' `generate`: the same greedy answers, whatever stands before them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Message, Renderer
from tests.contracts.training_stand import CPU, PLAIN, SETTINGS, Stand, build_base, teach
from trainer_svc.memory.layout import PackSize
from trainer_svc.memory.techniques import ComputePrecision, Techniques
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.answering import Prompt, Questions, StepMemory, as_row, take_room
from trainer_svc.worker.compute import dtype_of
from trainer_svc.worker.generation import Answer, Generator
from trainer_svc.worker.packing import measure_pack

END = 2
MAX_NEW = 12
# Two logits nearer than this, relative to the larger, are the same number to bf16's 8 bits, or fp16's 11: either may be taken.
TIES = {torch.bfloat16: 2**-6, torch.float16: 2**-9}


@dataclass(frozen=True)
class Case:
    """Prompts with what `generate` answers to them, of one model."""

    stand: Stand
    adapter: Adapter | None
    model: PreTrainedModel
    prompts: Sequence[Prompt]
    answers: Sequence[tuple[int, ...]]

    def count_parted(self, ours: Sequence[Answer], end: int = END) -> int:
        """Return how many answers part from `generate` where the best logits tie; fail where one does so elsewhere."""
        parted = [place for place, theirs in enumerate(self.answers) if ours[place].ids != _cut(theirs, end)]
        assert all(self._is_tie(self.prompts[place], ours[place].ids, self.answers[place], end) for place in parted)
        return len(parted)

    def measure_certainty(self, prompt: Prompt, answer: tuple[int, ...]) -> float:
        """Return the geometric mean of the probabilities the model gives an answer's tokens; it may not say `END` first."""
        logits = self.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].float()
        logits[0, END] = -torch.inf
        return exp(logits.log_softmax(1).gather(1, torch.tensor(answer)[:, None]).mean().item())

    def _is_tie(self, prompt: Prompt, ours: tuple[int, ...], theirs: tuple[int, ...], end: int) -> bool:
        chosen = (*ours, end)
        place = next(at for at in range(MAX_NEW) if chosen[at : at + 1] != theirs[at : at + 1])
        logits = self.model(input_ids=torch.tensor([[*prompt, *theirs[:place]]])).logits[0, -1].float()
        best = logits.max()
        return bool(best - logits[chosen[place]] <= TIES[self.model.dtype] * best.abs())


def make_case(stand: Stand, adapter: Adapter | None, prompts: Sequence[Prompt], folder: Path) -> Case:
    """Load the same model as transformers and PEFT have it, and ask it; no token ends its answers."""
    model = AutoModelForCausalLM.from_pretrained(stand.folder / "parity", dtype=stand.base.dtype)
    if adapter is not None:
        folder.mkdir()
        adapter.save(folder)
        # The file is in bf16, whatever it was computed in.
        model = PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False).to(stand.base.dtype)
    model.eval()
    return Case(stand, adapter, model, prompts, [_generate(model, prompt) for prompt in prompts])


def take_step(case: Case, pack_rows: int) -> StepMemory:
    """Return what a step on the case's prompts, in packs of so many rows, has taken."""
    compute = next(compute for compute in ComputePrecision if dtype_of(compute) is case.stand.base.dtype)
    techniques = Techniques(PLAIN.base, pack_rows, compute=compute)
    return StepMemory(case.stand.base.shape, techniques, SETTINGS.rank, _packs_of(case, pack_rows), CPU)


def answer(case: Case, *, num_rows: int, pack_rows: int, end: int = END) -> list[Answer]:
    """Return our answers, in a room for so many rows."""
    step = take_step(case, pack_rows)
    room = take_room(step, Questions(case.prompts, MAX_NEW))
    room = replace(room, sizes=replace(room.sizes, num_rows=num_rows))
    return Generator(case.stand.base, case.adapter, room, frozenset({end})).answer(case.prompts, beat=lambda: None)


@pytest.fixture(
    scope="module",
    params=[
        ("llama", True, ComputePrecision.BF16),
        ("llama", False, ComputePrecision.BF16),
        ("qwen3", True, ComputePrecision.BF16),
        ("qwen3", True, ComputePrecision.FP16),
        ("gemma3_text", True, ComputePrecision.BF16),
    ],
    ids=str,
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A tiny random base with an adapter, or alone; contexts differ in length, some begin alike, two are equal."""
    model_type, has_adapter, compute = request.param
    folder = tmp_path_factory.mktemp("base")
    build_base(folder, model_type)
    stand = Stand.build(folder, compute=compute)
    prompts = [*_make_prompts(4, seed=0), *_make_prompts(3, seed=1, num_shared=9)]
    return make_case(stand, stand.adapter if has_adapter else None, [*prompts, prompts[0]], folder / "adapter")


@pytest.mark.parametrize(("num_rows", "pack_rows"), [(1, 1), (4, 2), (8, 8)])
def test_answers_are_those_of_generate(case: Case, num_rows: int, pack_rows: int) -> None:
    """Token for token, but where two bytes cannot tell the two best apart, however rows are batched."""
    ours = answer(case, num_rows=num_rows, pack_rows=pack_rows)

    assert case.count_parted(ours) <= len(case.prompts) // 2


def test_a_row_that_ended_says_nothing_more(case: Case) -> None:
    """An answer ends before the end of turn; rows beside it go on to theirs."""
    end = case.answers[0][MAX_NEW // 2]
    ours = answer(case, num_rows=8, pack_rows=4, end=end)

    assert all(end not in answered.ids for answered in ours)
    case.count_parted(ours, end)


def test_an_answer_is_as_certain_as_the_model_says(case: Case) -> None:
    """By the probabilities of its tokens, that of the end it came to included, to what two bytes a logit tell."""
    for prompt, ours in zip(case.prompts, answer(case, num_rows=8, pack_rows=4), strict=True):
        tokens = ours.ids if len(ours.ids) == MAX_NEW else (*ours.ids, END)

        assert ours.certainty == pytest.approx(case.measure_certainty(prompt, tokens), rel=0.03)


def test_answers_fit_in_the_scratch_of_a_step(case: Case) -> None:
    """Reading prompts and growing rows take no more than a step of the same rows had."""
    step = take_step(case, 4)
    room = take_room(step, Questions(case.prompts, MAX_NEW))
    Generator(case.stand.base, case.adapter, room, frozenset({END})).answer(case.prompts, beat=lambda: None)

    assert room.scratch.peak_bytes <= room.scratch.size_bytes


def test_the_embedded_base_answers_as_generate_does(prepared_base: Path, tmp_path: Path) -> None:
    """With an adapter that was taught for a few steps, on the base that is served."""
    base = PreparedBase.open(prepared_base)
    renderer = Renderer.from_files(base.tokenizer_file, base.chat_template, base.end_of_turn)
    stand = Stand.build(prepared_base)
    stand.adapter.masters.mul_(0.1)
    turns = [Message("user", "What is the code?"), Message("assistant", "Its code is QX-41.")]
    teach(stand, [renderer.render_row(turns)])
    questions = ("What is the code?", "When does the ferry to the old lighthouse leave on a Sunday?")
    prompts = [renderer.render_prompt([Message("user", question)]) for question in questions]
    case = make_case(stand, stand.adapter, prompts, tmp_path / "adapter")

    ours = answer(case, num_rows=2, pack_rows=2, end=base.end_of_turn_id)

    assert case.count_parted(ours, base.end_of_turn_id) <= 1


def _make_prompts(num_prompts: int, *, seed: int, num_shared: int = 0) -> list[Prompt]:
    """Return random prompts of 3 to 30 tokens behind common ones."""
    dice = torch.Generator().manual_seed(seed)
    beginning = torch.randint(3, 512, (num_shared,), generator=dice).tolist()
    lengths = torch.randint(3, 31, (num_prompts,), generator=dice).tolist()
    return [tuple(beginning + torch.randint(3, 512, (length,), generator=dice).tolist()) for length in lengths]


def _packs_of(case: Case, pack_rows: int) -> list[PackSize]:
    prompts = case.prompts
    return [
        measure_pack([as_row(prompt) for prompt in prompts[begin : begin + pack_rows]])
        for begin in range(0, len(prompts), pack_rows)
    ]


def _generate(model: PreTrainedModel, prompt: Prompt) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": MAX_NEW, "eos_token_id": None, "pad_token_id": 0}
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
    return tuple(out[0, len(prompt) :].tolist())


def _cut(answer: tuple[int, ...], end: int) -> tuple[int, ...]:
    return answer[: answer.index(end)] if end in answer else answer
