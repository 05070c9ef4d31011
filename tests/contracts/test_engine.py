"""What an engine promises, and the faults of vLLM that its rules keep away, shown on vLLM and on the fake alike.

A test named `vllm_...` shows a fault below the rules: when one fails on a new vLLM, the rule beside it may go.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import serve_svc
from adaptory.core.adapter_check import AdapterLimits, adapter_digest, check_adapter
from adaptory.core.base_shape import LINEAR_MODULES
from adaptory.core.errors import AdapterRejected, FailedPrecondition, InvalidRequest, Unavailable
from serve_svc.adapters.cache import AdapterCache
from serve_svc.adapters.files import AdapterFiles
from serve_svc.adapters.loading import ServedBase
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import AdapterLoadFailed, EngineAdapter, EngineDead, EngineRequest, SchemaImpossible
from serve_svc.engine.metrics import VllmCollector
from serve_svc.engine.supervisor import EngineState
from serve_svc.version import AdapterVersion
from tests.adapters import random_tensors, write_weights
from tests.contracts.engine_stand import EngineStand, ask
from tests.fakes.adapters import FolderSource, RecordingObserver

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # torch and vLLM warn about each other while an engine is built, in whichever test that happens.
    pytest.mark.filterwarnings("ignore"),
]


VERDICT = """{"type": "object", "properties": {
  "verdict": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}, "score": {"type": "integer", "minimum": 0, "maximum": 9}
}, "required": ["verdict", "sure", "score"], "additionalProperties": false}"""


def by_schema(request: EngineRequest) -> EngineRequest:
    """Have the answer conform to the schema of a verdict."""
    return replace(request, sampling=replace(request.sampling, answer_schema=VERDICT))


def double_rank(stand: EngineStand) -> Callable[[Path], None]:
    """Return a damage that gives the tensors twice the rank that the config tells and the slots have."""
    return lambda folder: write_weights(folder, random_tensors(stand.kind.shape, 16, LINEAR_MODULES))


def fill_with_nan(stand: EngineStand) -> Callable[[Path], None]:
    """Return a damage that makes every weight of B not a number."""

    def damage(folder: Path) -> None:
        tensors = random_tensors(stand.kind.shape, 8, LINEAR_MODULES)
        write_weights(folder, {k: np.full_like(v, np.nan) if "lora_B" in k else v for k, v in tensors.items()})

    return damage


@asynccontextmanager
async def loaded(stand: EngineStand) -> AsyncIterator[EngineAdapter]:
    """Keep a good adapter resident while the block runs, and leave the engine as it was."""
    adapter = stand.make_adapter()
    await stand.supervisor.load_adapter(adapter)
    yield adapter
    await stand.supervisor.unload_adapter(adapter.engine_id)


async def test_adapters_and_base_each_answer_with_their_own_weights(stand: EngineStand) -> None:
    """Three requests at once, on two adapters and none, get three different answers, the same as alone."""
    async with loaded(stand) as one, loaded(stand) as other:
        alone = [await ask(stand.engine, stand.request(adapter)) for adapter in (one, other, None)]

        together = await asyncio.gather(*(ask(stand.engine, stand.request(adapter)) for adapter in (one, other, None)))

    assert len(set(alone)) == 3
    assert together == alone


async def test_last_chunk_tells_the_end_and_the_counts(stand: EngineStand) -> None:
    """A stream cut by max_tokens ends with `length` and the numbers of both sides."""
    request = stand.request(None, num_tokens=3)

    async with aclosing(stand.engine.generate(request)) as stream:
        chunks = [chunk async for chunk in stream]

    assert [chunk.finish_reason for chunk in chunks][-1] == "length"
    assert (chunks[-1].num_prompt_tokens, chunks[-1].num_output_tokens) == (len(request.prompt_ids), 3)


async def test_a_stop_token_ends_the_answer_and_is_no_part_of_it(stand: EngineStand) -> None:
    """Generation ends with the first of the request's stop tokens; it is counted, and its text is not told."""
    request = stand.request(None, num_tokens=6)
    async with aclosing(stand.supervisor.generate(request)) as stream:
        spoken = [(token, chunk.text) async for chunk in stream for token in chunk.token_ids]
    place, token = next(
        (place, token) for place, (token, _) in enumerate(spoken) if place and token not in dict(spoken[:place])
    )

    again = stand.request(None, num_tokens=6)
    again = replace(again, sampling=replace(again.sampling, stop_ids=(token,)))
    async with aclosing(stand.supervisor.generate(again)) as stream:
        chunks = [chunk async for chunk in stream]

    assert (chunks[-1].finish_reason, chunks[-1].num_output_tokens) == ("stop", place + 1)
    assert "".join(chunk.text for chunk in chunks) == "".join(text for _, text in spoken[:place])


async def test_an_answer_by_a_schema_conforms(stand: EngineStand) -> None:
    """Adapters that babble and the base alone, at once and beside free speech, say nothing but what the schema lets them say."""
    await stand.supervisor.prepare_schema(VERDICT)
    async with loaded(stand) as adapter:
        free = [await ask(stand.engine, stand.request(adapter)), await ask(stand.engine, stand.request(None))]

        speakers = (by_schema(stand.request(adapter, num_tokens=60)), by_schema(stand.request(None, num_tokens=60)))
        requests = (*speakers, stand.request(adapter), stand.request(None))
        answers = await asyncio.gather(*(ask(stand.supervisor, request) for request in requests))

    for answer in answers[:2]:
        told = json.loads(answer)
        assert told["verdict"] in {"yes", "no"}
        assert isinstance(told["sure"], bool)
        assert 0 <= told["score"] <= 9
    assert answers[2:] == free


async def test_an_answer_by_a_schema_ends_with_the_tokens_it_may_have(stand: EngineStand) -> None:
    """What is cut amid its JSON says so; what has come to its end has stopped."""
    await stand.supervisor.prepare_schema(VERDICT)

    reasons = []
    for num_tokens in (2, 60):
        async with aclosing(stand.supervisor.generate(by_schema(stand.request(None, num_tokens=num_tokens)))) as stream:
            reasons.append([chunk.finish_reason async for chunk in stream][-1])

    assert reasons == ["length", "stop"]


async def test_a_schema_that_cannot_be_kept_is_refused_and_disturbs_nobody(stand: EngineStand) -> None:
    """It is refused each time, with a reason of its own; streams beside it say what they say alone, and the engine lives on."""
    impossible = '{"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}, "required": ["a"]}'
    async with loaded(stand) as adapter:
        alone = await ask(stand.engine, stand.request(adapter, num_tokens=12))

        async with aclosing(stand.supervisor.generate(stand.request(adapter, num_tokens=12))) as stream:
            said = (await anext(stream)).text
            for _ in range(2):
                with pytest.raises(SchemaImpossible) as refused:
                    await stand.supervisor.prepare_schema(impossible)
            said += "".join([chunk.text async for chunk in stream])

    assert refused.value.reason == "SCHEMA_IMPOSSIBLE"
    assert said == alone
    await stand.supervisor.check()


async def test_tokens_are_told_with_their_probabilities_and_the_likeliest_others(stand: EngineStand) -> None:
    """As many alternatives as asked for, none for 0, of which the greedy choice is the first; their texts make up the answer's."""
    request = stand.request(None, num_tokens=5)
    free = await ask(stand.engine, request)

    for num_logprobs in (0, 5):
        sampling = replace(request.sampling, num_logprobs=num_logprobs)
        again = replace(stand.request(None), sampling=sampling)
        async with aclosing(stand.engine.generate(again)) as stream:
            chunks = [chunk async for chunk in stream]
        tokens = [token for chunk in chunks for token in chunk.tokens]

        assert "".join(chunk.text for chunk in chunks) == free
        assert "".join(token.text for token in tokens).startswith(free)
        assert [len(chunk.tokens) for chunk in chunks] == [len(chunk.token_ids) for chunk in chunks]
        for token in tokens:
            likelihoods = [other.logprob for other in token.alternatives]
            assert token.logprob <= 0
            assert len(likelihoods) == num_logprobs
            assert likelihoods == sorted(likelihoods, reverse=True)
            assert likelihoods[:1] == [token.logprob][:num_logprobs]


async def test_vllm_answers_a_reused_id_with_the_first_adapter(stand: EngineStand) -> None:
    """Rule 1, below: a second adapter under a used id is added without complaint and speaks with the first one's weights."""
    first, second = stand.make_adapter(), stand.make_adapter()
    impostor = EngineAdapter(first.engine_id, second.name, second.path)
    await stand.backend.add_lora(first)

    is_added = await stand.backend.add_lora(impostor)
    answers = [await ask(stand.backend, stand.request(adapter)) for adapter in (first, impostor)]
    await stand.backend.remove_lora(first.engine_id)

    assert is_added
    assert answers[0] == answers[1]


async def test_id_of_another_adapter_is_refused(stand: EngineStand) -> None:
    """Rule 1: one id is one adapter for the engine's whole life, even after it was unloaded."""
    async with loaded(stand) as first:
        pass
    second = stand.make_adapter()

    with pytest.raises(AdapterLoadFailed, match="its id belongs to"):
        await stand.engine.load_adapter(EngineAdapter(first.engine_id, second.name, second.path))


async def test_second_id_of_one_name_is_refused(stand: EngineStand) -> None:
    """Rule 5: two ids with one name in a batch would kill vLLM."""
    async with loaded(stand) as first:
        second = stand.make_adapter()

        with pytest.raises(AdapterLoadFailed, match="another id has this name"):
            await stand.engine.load_adapter(EngineAdapter(second.engine_id, first.name, second.path))


async def test_relative_path_is_refused(stand: EngineStand) -> None:
    """Rule 5: vLLM would take a relative path for a repository on the hub."""
    adapter = EngineAdapter(10_001, "tenant/bot@relative", Path("adapters/relative"))

    with pytest.raises(AdapterLoadFailed, match="no absolute path"):
        await stand.engine.load_adapter(adapter)


async def test_vllm_accepts_the_retry_of_a_failed_load(stand: EngineStand) -> None:
    """Rule 2, below: the first add of a lying rank fails, the second answers True without having loaded anything."""
    liar = stand.make_adapter(double_rank(stand))

    with pytest.raises(AdapterLoadFailed):
        await stand.backend.add_lora(liar)
    is_added = await stand.backend.add_lora(liar)
    await stand.backend.remove_lora(liar.engine_id)

    assert is_added


async def test_failed_load_leaves_nothing_behind_and_spends_its_id(stand: EngineStand) -> None:
    """Rule 2: after a failed load vLLM knows nothing of the id, and it is never offered again."""
    liar = stand.make_adapter(double_rank(stand))

    with pytest.raises(AdapterLoadFailed):
        await stand.engine.load_adapter(liar)

    assert liar.engine_id not in await stand.backend.list_loras()
    with pytest.raises(AdapterLoadFailed, match="its load failed before"):
        await stand.engine.load_adapter(liar)


async def test_a_stream_goes_on_while_an_adapter_is_read(stand: EngineStand) -> None:
    """A disk that takes its time costs nobody but who waits for the adapter; vLLM by itself would stand still."""
    adapter = stand.make_adapter()
    go_on_reading = stand.hold_reading(adapter)
    load = asyncio.create_task(stand.engine.load_adapter(adapter))

    async with asyncio.timeout(60):
        answer = await ask(stand.engine, stand.request(None, num_tokens=16))
    was_loaded = load.done()
    await asyncio.to_thread(go_on_reading)
    await load

    assert answer
    assert not was_loaded
    assert await ask(stand.engine, stand.request(adapter))
    await stand.engine.unload_adapter(adapter.engine_id)


async def test_adapter_that_is_not_loaded_is_never_named_to_vllm(stand: EngineStand) -> None:
    """Rule 2: a request for an adapter nobody loaded is refused, since vLLM would load it within a step and may die."""
    with pytest.raises(Unavailable, match="is not loaded"):
        await ask(stand.engine, stand.request(stand.make_adapter()))


async def test_file_that_the_judge_refuses_never_reaches_the_engine(stand: EngineStand, tmp_path: Path) -> None:
    """Rule 3: the cache asks the judge first, so NaN weights end as AdapterRejected and the engine learns nothing."""
    poison = stand.make_adapter(fill_with_nan(stand))
    cache, version = make_cache(stand, poison, tmp_path)

    with pytest.raises(AdapterRejected) as rejection:
        async with cache.lease(version):
            pytest.fail("a rejected adapter was leased")

    assert rejection.value.reason == "NOT_FINITE"
    assert poison.engine_id not in await stand.backend.list_loras()


async def test_vllm_loads_a_removed_adapter_again_when_a_request_uses_it(stand: EngineStand) -> None:
    """Rule 4, below: removing an adapter in mid-stream is answered with True and undone by the next step."""
    adapter = stand.make_adapter()
    await stand.backend.add_lora(adapter)

    async with aclosing(stand.backend.generate(stand.request(adapter, num_tokens=40))) as stream:
        await anext(stream)
        is_removed = await stand.backend.remove_lora(adapter.engine_id)
        [chunk async for chunk in stream]

    assert is_removed
    assert adapter.engine_id in await stand.backend.list_loras()
    await stand.backend.remove_lora(adapter.engine_id)


async def test_adapter_in_use_is_not_unloaded(stand: EngineStand) -> None:
    """Rule 4: unloading waits for the caller to drain; it is refused while a stream runs."""
    async with (
        loaded(stand) as adapter,
        aclosing(stand.engine.generate(stand.request(adapter, num_tokens=40))) as stream,
    ):
        await anext(stream)

        with pytest.raises(FailedPrecondition, match="still use"):
            await stand.engine.unload_adapter(adapter.engine_id)


async def test_undeploy_drains_then_unloads_then_deletes(stand: EngineStand, tmp_path: Path) -> None:
    """Rule 4: the files of a version live until its last stream has ended and the engine has forgotten it."""
    adapter = stand.make_adapter()
    cache, version = make_cache(stand, adapter, tmp_path)

    async with cache.lease(version) as leased:
        undeploy = asyncio.create_task(cache.undeploy(version))
        answer = await ask(stand.supervisor, stand.request(leased, num_tokens=8))
        is_drained_first = leased.path.exists() and not undeploy.done()
    await undeploy

    assert answer
    assert is_drained_first
    assert not leased.path.exists()
    assert adapter.engine_id not in await stand.backend.list_loras()


async def test_calls_that_break_vllm_are_not_in_the_code() -> None:
    """Rule 5: nothing in serve_svc pins an adapter or loads one in place."""
    sources = Path(serve_svc.__file__).parent.rglob("*.py")

    offenders = [file for file in sources if any(word in file.read_text() for word in ("pin_lora", "load_inplace"))]

    assert not offenders


async def test_vllm_drops_an_adapter_unasked_when_it_holds_too_many(stand: EngineStand) -> None:
    """Rule 6, below: beyond max_cpu_loras the least recently used one is evicted without a word."""
    adapters = [stand.make_adapter() for _ in range(stand.engine.max_cpu_loras + 2)]
    for adapter in adapters:
        await stand.backend.add_lora(adapter)

    registered = await stand.backend.list_loras()
    for adapter in adapters:
        await stand.backend.remove_lora(adapter.engine_id)

    assert adapters[0].engine_id not in registered
    assert adapters[-1].engine_id in registered


async def test_engine_refuses_more_adapters_than_it_can_keep(stand: EngineStand) -> None:
    """Rule 6: the engine is full at max_cpu_loras, and the refused id may be loaded once there is room."""
    adapters = [stand.make_adapter() for _ in range(stand.engine.max_cpu_loras + 1)]
    for adapter in adapters[:-1]:
        await stand.engine.load_adapter(adapter)

    with pytest.raises(FailedPrecondition, match="unload one first"):
        await stand.engine.load_adapter(adapters[-1])
    await stand.engine.unload_adapter(adapters[0].engine_id)
    await stand.engine.load_adapter(adapters[-1])

    resident = await stand.engine.resident_adapters()
    for adapter in adapters[1:]:
        await stand.engine.unload_adapter(adapter.engine_id)
    assert resident == {adapter.engine_id for adapter in adapters[1:]}


async def test_cached_prompt_of_one_tenant_is_invisible_to_another(stand: EngineStand) -> None:
    """Rule 7: the same prompt hits the cache under the same salt alone."""
    prompts = [stand.long_request(salt) for salt in ("salt-a", "salt-a", "salt-b")]
    hits = []

    for request in prompts:
        before = stand.num_cache_hits()
        await ask(stand.engine, request)
        hits.append(stand.num_cache_hits() > before)

    assert hits == [False, True, False]


async def test_request_without_a_salt_is_a_bug_of_the_caller(stand: EngineStand) -> None:
    """Rule 7: forgetting the salt cannot go unseen."""
    with pytest.raises(ValueError, match="cache_salt is empty"):
        await ask(stand.engine, stand.request(None, salt=""))


async def test_prompt_beyond_the_context_is_refused_with_the_numbers(stand: EngineStand) -> None:
    """Rule 10: prompt and output together must fit, and the error says by how much they do not."""
    request = stand.request(None, num_tokens=stand.engine.max_model_tokens)

    with pytest.raises(InvalidRequest, match=f"at most {stand.engine.max_model_tokens} in all"):
        await ask(stand.engine, request)


async def test_closing_a_stream_aborts_the_work_behind_it(stand: EngineStand) -> None:
    """Rule 10: a caller that leaves after one token leaves nothing running."""
    async with aclosing(stand.engine.generate(stand.request(None, num_tokens=200))) as stream:
        await anext(stream)
        num_running = stand.num_unfinished()

    assert (num_running, stand.num_unfinished()) == (1, 0)


async def test_signal_to_the_whole_service_cuts_no_stream(stand: EngineStand) -> None:
    """Ctrl-C reaches every process; the workers below leave the streams to the drain of the service above."""
    request = stand.request(None, num_tokens=20)
    expected = await ask(stand.engine, request)

    async with aclosing(stand.engine.generate(replace(request, request_id="signalled"))) as stream:
        text = (await anext(stream)).text
        stand.signal_workers()
        text += "".join([chunk.text async for chunk in stream])

    assert text == expected


async def test_metrics_leave_without_tenants_names(stand: EngineStand) -> None:
    """Rule 11: what is scraped holds no label with an adapter's name."""
    async with loaded(stand) as adapter:
        await ask(stand.engine, stand.request(adapter))

        samples = [sample for metric in VllmCollector().collect() for sample in metric.samples]

    assert not [sample for sample in samples if any(adapter.name in value for value in sample.labels.values())]


async def test_poison_ends_the_engine_and_is_quarantined(stand: EngineStand, tmp_path: Path) -> None:
    """Rule 8: NaN is never served; the engine is replaced and answers as before, and the version that did it is refused."""
    before = await ask(stand.supervisor, stand.request(None))
    poison = stand.make_adapter(fill_with_nan(stand))
    cache, version = make_cache(stand, poison, tmp_path, judge=lambda _: None)

    with pytest.raises(OutputCorrupted):
        async with cache.lease(version) as leased:
            await ask(stand.supervisor, stand.request(leased))
    await stand.reach(EngineState.RECOVERING)
    await stand.reach(EngineState.SERVING)

    assert await ask(stand.supervisor, stand.request(None)) == before
    with pytest.raises(FailedPrecondition, match="in quarantine"):
        async with cache.lease(version):
            pytest.fail("a version in quarantine was leased")


async def test_engine_killed_while_idle_is_replaced_and_adapters_can_be_leased_again(
    stand: EngineStand, tmp_path: Path
) -> None:
    """Rule 9: nobody needs to ask for the death to be noticed, and a version answers from the new engine as from the old."""
    adapter = stand.make_adapter()
    cache, version = make_cache(stand, adapter, tmp_path)
    async with cache.lease(version) as leased:
        before = await ask(stand.supervisor, stand.request(leased))

    stand.kill()
    await stand.reach(EngineState.RECOVERING)
    await stand.reach(EngineState.SERVING)
    assert await cache.residents() == ()
    async with cache.lease(version) as leased:
        assert await ask(stand.supervisor, stand.request(leased)) == before


async def test_stream_of_a_hung_engine_ends_when_it_is_stopped(stand: EngineStand) -> None:
    """Rule 9: a hung engine looks healthy and says nothing; stopping it ends what waits for it with EngineDead."""
    async with aclosing(stand.engine.generate(stand.request(None, num_tokens=200))) as stream:
        await anext(stream)
        stand.hang()
        await stand.engine.check()
        rest = asyncio.create_task(drain(stream))

        await stand.supervisor.stop()

        with pytest.raises(EngineDead):
            await rest


async def drain(stream: AsyncIterator[object]) -> None:
    """Read a stream to its end."""
    async for _ in stream:
        pass


def make_cache(
    stand: EngineStand, adapter: EngineAdapter, root: Path, judge: Callable[[Path], object] | None = None
) -> tuple[AdapterCache, AdapterVersion]:
    """Return a cache over the supervised engine, and the adapter as a version that its source can deliver."""
    version = version_of(adapter)
    judge = judge or partial(check_adapter, base=stand.kind.shape, limits=AdapterLimits())
    files = AdapterFiles(root, FolderSource({version.digest: adapter.path}))
    return AdapterCache(stand.supervisor, files, ServedBase("base", judge), RecordingObserver()), version


def version_of(adapter: EngineAdapter) -> AdapterVersion:
    """Describe an adapter as the registry would."""
    return AdapterVersion(
        name=f"tenants/tenant/bots/bot/versions/{adapter.engine_id}",
        tenant="tenant",
        bot="bot",
        number=adapter.engine_id,
        engine_id=adapter.engine_id,
        digest=adapter_digest(adapter.path),
        rank=8,
        base_digest="base",
        size_bytes=sum(file.stat().st_size for file in adapter.path.iterdir()),
    )
