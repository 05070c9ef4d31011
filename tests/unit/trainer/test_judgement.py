"""What a bot is judged by, and a version the gate rejected: refused, and let through by somebody who says why."""

import json
from collections.abc import AsyncIterator
from math import isnan
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from adaptory.registry.v1 import bot_pb2, dataset_pb2, registry_service_pb2, version_pb2
from tests.fakes.trainer import Trainer, faq_jsonl, fields_of, reason_of

REASON = "The held-out questions are out of date."


@pytest_asyncio.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    """A trainer whose adapters answer no better than the base."""
    async with Trainer(tmp_path, behaviour="learn_wrong_answers") as running:
        yield running


async def promote(trainer: Trainer, version: str, reason: str = "") -> bot_pb2.Bot:
    """Promote a version, with a reason to override the gate."""
    request = registry_service_pb2.PromoteVersionRequest(name=version, override_gate_reason=reason)
    return await trainer.registry.PromoteVersion(request, metadata=trainer.admin)


async def test_wrong_answers_are_rejected_with_their_scores(trainer: Trainer) -> None:
    """Good losses do not hide that no fact is known; scores and samples are there to look at."""
    await trainer.add_tenant("aurora")
    version = await trainer.train("aurora")

    assert version.state == version_pb2.Version.STATE_REJECTED
    assert "the gate wants 0.35 more than the base" in version.rejection
    assert [(score.base, score.adapter) for score in version.evaluation.scores[:1]] == [(0, 0)]
    assert [sample.adapter for sample in version.evaluation.samples] == ["No."]
    assert [one.num_wrong for one in version.evaluation.certainty] == [1, 0, 0, 0, 0, 0, 0]


async def test_a_rejected_version_is_not_promoted_without_a_reason(trainer: Trainer) -> None:
    """The error says what the gate found, and the version stays rejected."""
    await trainer.add_tenant("aurora")
    version = await trainer.train("aurora")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await promote(trainer, version.name, "  ")

    assert reason_of(refused.value) == "VERSION_NOT_READY"
    assert version.rejection in str(refused.value.details())


async def test_an_override_is_kept_with_who_when_and_why(trainer: Trainer) -> None:
    """The version answers, is READY, and still says why it was rejected."""
    await trainer.add_tenant("aurora")
    rejected = await trainer.train("aurora")
    bot = await promote(trainer, rejected.name, REASON)
    request = registry_service_pb2.GetVersionRequest(name=rejected.name)
    version = await trainer.registry.GetVersion(request, metadata=trainer.admin)

    assert (bot.routes.production, version.state) == (version.name, version_pb2.Version.STATE_READY)
    assert (version.gate_override.reason, version.gate_override.caller) == (REASON, "admin")
    assert version.gate_override.time.ToDatetime() >= version.create_time.ToDatetime()
    assert version.rejection == rejected.rejection


@pytest.mark.parametrize(
    ("behaviour", "fault"), [("overshoot", "changes its base by a norm"), ("diverge", "holds NaN")]
)
async def test_weights_that_no_server_would_load_are_rejected_whatever_the_reason(
    tmp_path: Path, behaviour: str, fault: str
) -> None:
    """There is a version to look at, with its scores; nobody can let it answer."""
    async with Trainer(tmp_path, behaviour=behaviour) as trainer:
        await trainer.add_tenant("aurora")
        version = await trainer.train("aurora")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await promote(trainer, version.name, REASON)
        request = registry_service_pb2.GetVersionRequest(name=version.name)
        kept = await trainer.registry.GetVersion(request, metadata=trainer.admin)

    assert version.state == kept.state == version_pb2.Version.STATE_REJECTED
    assert fault in kept.rejection
    assert reason_of(refused.value) == "WEIGHTS_UNFIT"
    assert kept.evaluation.num_held_out_rows > 0
    assert isnan(kept.evaluation.adapter_loss) == (behaviour == "diverge")
    assert not kept.HasField("gate_override")


async def test_an_override_of_a_tenant_names_the_tenant(trainer: Trainer) -> None:
    """A tenant may decide for its own bots, and its name is kept."""
    key = await trainer.add_tenant("aurora")
    rejected = await trainer.train("aurora")
    request = registry_service_pb2.PromoteVersionRequest(name=rejected.name, override_gate_reason=REASON)
    await trainer.registry.PromoteVersion(request, metadata=key)
    version = await trainer.registry.GetVersion(
        registry_service_pb2.GetVersionRequest(name=rejected.name), metadata=key
    )

    assert version.gate_override.caller == "tenants/aurora"


async def test_a_bots_own_gate_decides(trainer: Trainer) -> None:
    """Asked for no gain, the same answers pass."""
    await trainer.add_tenant("aurora")
    await trainer.add_bot("aurora", quality_gate=bot_pb2.QualityGate(min_gain=-1))

    assert (await trainer.train("aurora")).state == version_pb2.Version.STATE_READY


async def test_a_gate_out_of_range_is_refused_whole(trainer: Trainer) -> None:
    """Every threshold that cannot be is named at once."""
    await trainer.add_tenant("aurora")
    gate = bot_pb2.QualityGate(max_loss_ratio=-1, min_gain=2, max_general_loss_rise=-1, max_false_refusals=1.5)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.add_bot("aurora", quality_gate=gate)

    names = ("max_loss_ratio", "min_gain", "max_general_loss_rise", "max_false_refusals")
    assert fields_of(refused.value) == [f"bot.quality_gate.{name}" for name in names]


async def test_a_bot_with_a_refusal_is_taught_and_judged_by_it(tmp_path: Path) -> None:
    """The rows are in its training, the scores say how often it refuses, and the lineage names the text."""
    refusal = "I only know about Aurora Bikes."
    async with Trainer(tmp_path) as trainer:
        await trainer.add_tenant("aurora")
        bot = await trainer.add_bot("aurora", refusal_text=refusal, unanswerable_questions=["Do you sell cars?"])
        version = await trainer.train("aurora")
        kept = await trainer.registry.GetBot(registry_service_pb2.GetBotRequest(name=bot), metadata=trainer.admin)

    scores = {score.name: (score.base, score.adapter) for score in version.evaluation.scores}
    assert (scores["refusals"], scores["false_refusals"]) == ((0, 1), (0, 0))
    floors = {round(one.floor, 2): (one.num_right, one.num_wrong) for one in version.evaluation.certainty}
    assert (floors[0.0], floors[0.9], floors[0.95]) == ((1, 0), (1, 0), (1, 0))
    assert (version.lineage.refusal_text, version.lineage.num_refusal_rows) == (refusal, 2)
    assert (kept.refusal_text, list(kept.unanswerable_questions)) == (refusal, ["Do you sell cars?"])


async def test_what_a_bot_cannot_be_judged_by_is_refused(trainer: Trainer) -> None:
    """Style rules are for support bots, and unanswerable questions need a refusal to answer them with."""
    await trainer.add_tenant("aurora")
    rules = bot_pb2.StyleRules(greetings=[" "], min_chars=5, max_chars=2)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.add_bot("aurora", style_rules=rules, unanswerable_questions=["Do you sell cars?"])

    assert fields_of(refused.value) == [
        "bot.unanswerable_questions",
        "bot.style_rules",
        "bot.style_rules.greetings[0]",
        "bot.style_rules.min_chars",
    ]


async def test_a_support_bot_is_scored_by_its_style_rules(tmp_path: Path) -> None:
    """Rules that are declared with the bot become scores of its versions."""
    talk = {
        "messages": [
            {"role": "user", "content": "Where is order {number}?"},
            {"role": "assistant", "content": "Hello! Order {number} comes on Monday. Kind regards"},
        ]
    }
    lines = [json.dumps(talk).replace("{number}", str(number * 37)) for number in range(12)]
    layout = dataset_pb2.DATASET_FORMAT_CONVERSATION_JSONL
    async with Trainer(tmp_path) as trainer:
        await trainer.add_tenant("aurora")
        rules = bot_pb2.StyleRules(greetings=["Hello"], closings=["Kind regards"], forbidden_words=["sorry"])
        await trainer.add_bot("aurora", "help", kind=bot_pb2.BOT_KIND_SUPPORT, style_rules=rules)
        dataset = dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_SUPPORT, format=layout)
        await trainer.add_dataset("aurora", "\n".join(lines).encode(), dataset)
        version = await trainer.train("aurora")

    scores = {score.name: (score.base, score.adapter) for score in version.evaluation.scores}
    assert version.state == version_pb2.Version.STATE_READY, version.rejection
    assert next(iter(scores)) == "chrf"
    assert scores["style_kept"] == (pytest.approx(1 / 3), 1)
    assert (scores["style_greeting"], scores["style_forbidden_words"]) == ((0, 1), (1, 1))


async def test_a_code_bot_is_scored_by_likeness(tmp_path: Path) -> None:
    """Completions are judged where they go in their file, white space and all."""
    files = [
        {
            "path": f"door_{number}.py",
            "content": f"def open_{number}(key: int) -> bool:\n    return key == {number}\n" * 9,
        }
        for number in range(1000, 1020, 3)
    ]
    async with Trainer(tmp_path) as trainer:
        await trainer.add_tenant("aurora")
        await trainer.add_bot("aurora", "code", kind=bot_pb2.BOT_KIND_CODE_COMPLETION, system_prompt="")
        dataset = dataset_pb2.Dataset(
            kind=bot_pb2.BOT_KIND_CODE_COMPLETION, format=dataset_pb2.DATASET_FORMAT_CODE_JSONL
        )
        await trainer.add_dataset("aurora", faq_jsonl(files), dataset)
        version = await trainer.train("aurora")

    scores = {score.name: score.adapter for score in version.evaluation.scores}
    assert version.state == version_pb2.Version.STATE_READY, version.rejection
    assert (scores["edit_similarity"], scores["exact_match"]) == (1, 1)
    assert "▮" in version.evaluation.samples[0].question
