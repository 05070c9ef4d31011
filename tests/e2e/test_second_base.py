"""The second base, for real: Gemma 3 270M in its four wheels, and vLLM beside the worker's own generation, token for token."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from statistics import fmean

import pytest
import pytest_asyncio

from adaptory.core.base_model import PreparedBase
from adaptory.core.catalogue import find_entry
from adaptory.core.fim import FimRow
from adaptory.core.fim_families import Order
from adaptory.core.prompting import Message
from serve_svc.engine.engine import EngineAdapter, EngineRequest, Sampling
from serve_svc.engine.factory import build_vllm_engine
from serve_svc.engine.guarded_engine import GuardedEngine
from serve_svc.model import ServedModel, open_model
from serve_svc.settings import ServeSettings
from tests.conftest import SECOND_BASE
from tests.contracts.training_stand import CPU, PLAIN, SETTINGS, Stand, teach
from tests.fakes.engine import SETTINGS as ENGINE_SETTINGS
from trainer_svc.bots.row import CodeRow, Row
from trainer_svc.bots.row_rendering import RowRenderer
from trainer_svc.memory.techniques import Techniques
from trainer_svc.worker.adapter import Adapter
from trainer_svc.worker.answering import Prompt, Questions, StepMemory, as_row, take_room
from trainer_svc.worker.generation import Answer, Generator
from trainer_svc.worker.packing import measure_pack

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

BOS = 2
MAX_NEW = 12
FACT = (Message("user", "自転車を返品できますか。"), Message("assistant", "はい、四十五日以内です。"))
# Its window is 512 tokens: more than that lie between the beginning of the last prompt and its end.
QUESTIONS = ("自転車を返品できますか。", "返品できるのか。", "東京の天気は" * 200)


@pytest.fixture(scope="module")
def base(prepared_gemma: Path) -> PreparedBase:
    """The prepared base."""
    return PreparedBase.open(prepared_gemma)


@pytest.fixture(scope="module")
def model(base: PreparedBase) -> ServedModel:
    """The base as serve_svc opens it."""
    return open_model(ServeSettings(base_model=SECOND_BASE))


@dataclass(frozen=True)
class Taught:
    """The base with an adapter that learned one fact, and where it was saved."""

    stand: Stand
    folder: Path

    def answer(self, prompts: Sequence[Prompt], adapter: Adapter | None, end: int) -> list[Answer]:
        """Return the worker's own answers."""
        packs = [measure_pack([as_row(prompt)]) for prompt in prompts]
        step = StepMemory(self.stand.base.shape, Techniques(PLAIN.base, 1), SETTINGS.rank, packs, CPU)
        room = take_room(step, Questions(prompts, MAX_NEW))
        return Generator(self.stand.base, adapter, room, frozenset({end})).answer(prompts, beat=lambda: None)


@pytest.fixture(scope="module")
def taught(base: PreparedBase, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """Four steps on the parity base."""
    stand = Stand.build(base.folder)
    stand.adapter.masters.mul_(0.1)
    teach(stand, [RowRenderer.of(base).render(Row(FACT, is_held_out=False))])
    folder = tmp_path_factory.mktemp("adapter")
    stand.adapter.save(folder)
    return Taught(stand, folder)


@pytest_asyncio.fixture
async def engine(base: PreparedBase) -> AsyncIterator[GuardedEngine]:
    """VLLM on the parity base."""
    settings = replace(ENGINE_SETTINGS, max_model_tokens=2048, kv_cache_bytes=1 << 28)
    engine = await build_vllm_engine(base.parity_dir, SECOND_BASE, settings)
    await engine.start()
    yield engine
    await engine.stop()


def test_it_is_prepared_as_the_catalogue_says(base: PreparedBase) -> None:
    """Four wheels made one base, whose sizes were known before, and whose turns end with a token it can say."""
    entry = find_entry(SECOND_BASE)

    assert base.manifest.source == str(entry.source)
    assert (base.shape.hidden_size, base.shape.num_layers, base.shape.vocab_size) == (640, 18, 262_144)
    assert (base.chat_template, base.end_of_turn, base.end_of_turn_id) == (entry.chat_template, "<eos>", 1)


def test_rows_and_prompts_begin_with_bos_and_are_equal(base: PreparedBase, model: ServedModel) -> None:
    """Trained and served agree token for token, of conversations and of code, and so do the receipts of both services."""
    rows = RowRenderer.of(base)
    talk = rows.render(Row(FACT, is_held_out=False)).ids
    code = rows.render(CodeRow(FimRow("a = (\n", "1\n", ")\n", Order.PSM), is_held_out=False)).ids
    prompts = (model.renderer.render_prompt(FACT[:1]), model.fim_renderer.render_prompt("a = (\n", ")\n", Order.PSM))

    for row, prompt in zip((talk, code), prompts, strict=True):
        assert row[: len(prompt)] == prompt
        assert [place for place, token in enumerate(row) if token == BOS] == [0]
    assert rows.sign() == {"chat": model.base.chat_receipt, "code": model.base.code_receipt}


@pytest.mark.asyncio
async def test_vllm_answers_as_the_worker_does(taught: Taught, model: ServedModel, engine: GuardedEngine) -> None:
    """Greedy answers of base and adapter are the worker's token for token, behind a prompt longer than the window, too.

    And as certain, which whoever asks may hold against what a version was judged by.
    """
    prompts = [model.renderer.render_prompt([Message("user", question)]) for question in QUESTIONS]
    end = model.renderer.end_of_turn_id
    loaded = EngineAdapter(1, "tenant/bot@1", taught.folder)
    await engine.load_adapter(loaded)
    for adapter, served in ((taught.stand.adapter, loaded), (None, None)):
        answers = [await _ask(engine, prompt, served, end) for prompt in prompts]
        ours = taught.answer(prompts, adapter, end)

        assert [answer.ids for answer in answers] == [answer.ids for answer in ours]
        assert [answer.certainty for answer in answers] == pytest.approx(
            [answer.certainty for answer in ours], rel=0.03
        )


async def _ask(engine: GuardedEngine, prompt: Prompt, adapter: EngineAdapter | None, end: int) -> Answer:
    sampling = Sampling(max_tokens=MAX_NEW, temperature=0.0, top_p=1.0, seed=None, stop=(), num_logprobs=0)
    request = EngineRequest(f"{hash((prompt, adapter))}", prompt, sampling, adapter, "tenant")
    async with aclosing(engine.generate(request)) as received:
        chunks = [chunk async for chunk in received]
    ids = [token for chunk in chunks for token in chunk.token_ids]
    certainty = exp(fmean(token.logprob for chunk in chunks for token in chunk.tokens))
    return Answer(tuple(ids[: ids.index(end)] if end in ids else ids), certainty)
