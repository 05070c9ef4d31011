"""Promotion, undeployment, and what callers see of them while streams run."""

from pathlib import Path

import grpc
import pytest

from tests.fakes.registry import FakeRegistry
from tests.fakes.server import Stage, info_of, key_of, question, reason_of

ACME = key_of("adk_acme")
BOT = "tenants/acme/bots/faq"
V1, V2, V3 = (f"{BOT}/versions/{number}" for number in (1, 2, 3))


@pytest.fixture
async def voice(stage: Stage) -> str:
    """The word of version 1, which answers and is in the engine."""
    stage.add_bot(BOT, key="adk_acme")
    voice = stage.add_version(V1)
    stage.promote(V1)
    await stage.followed()
    await stage.loaded(V1)
    return voice


async def say(stage: Stage, name: str = BOT) -> str:
    """Return one word of the answer."""
    return (await stage.chat.ChatUnary(question(name, max_output_tokens=1), metadata=ACME)).text.strip()


async def test_a_promoted_version_is_loaded_before_anyone_asks(stage: Stage, voice: str) -> None:
    """Promotion itself brings the adapter into the engine, so that no request waits for it."""
    stage.add_version(V2)
    stage.promote(V2, previous=V1)

    await stage.loaded(V2)

    assert len(stage.engine.loads) == 2


async def test_a_running_stream_ends_on_its_version(stage: Stage, voice: str) -> None:
    """A stream that began before a promotion is the old version's to its end, while new requests are the new one's."""
    stage.engine.pause_after(1)
    stream = aiter(stage.chat.Chat(question(BOT, max_output_tokens=8), metadata=ACME))
    pieces = [await anext(stream)]
    new_voice = stage.add_version(V2)
    stage.promote(V2, previous=V1)
    await stage.loaded(V2)
    stage.engine.go_on()

    assert await say(stage) == new_voice
    pieces += [piece async for piece in stream]
    assert {piece.text.strip() for piece in pieces} == {voice}
    assert pieces[-1].finish.version == V1


async def test_a_corrupted_adapter_leaves_the_former_version_answering(stage: Stage, voice: str) -> None:
    """Bytes that are not those registered are never served: the bot goes on with the version before."""
    stage.add_version(V2, digest="0" * 64)
    stage.promote(V2, previous=V1)
    await stage.followed()

    answer = await stage.chat.ChatUnary(question(BOT, max_output_tokens=1), metadata=ACME)

    assert (answer.text.strip(), answer.finish.version) == (voice, V1)


async def test_a_corrupted_adapter_asked_for_by_name_is_an_error(stage: Stage, voice: str) -> None:
    """Who asks for one version gets that version or DATA_LOSS, never another."""
    stage.add_version(V2, digest="0" * 64)
    await stage.followed()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(stage, V2)

    assert caught.value.code() == grpc.StatusCode.DATA_LOSS


async def test_an_adapter_of_too_high_a_rank_is_refused_with_the_numbers(
    stage: Stage, voice: str, tmp_path: Path
) -> None:
    """The engine pads every adapter to one rank, so a higher one is refused before it gets there."""
    stage.add_version(V2, adapter_rank=16)
    await stage.followed()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(stage, V2)

    assert reason_of(caught.value) == "RANK_ABOVE_LIMIT"
    assert dict(info_of(caught.value).metadata) == {"rank": "16", "max_rank": "8"}


@pytest.mark.parametrize("field", ["parity_digest", "template_digest"])
async def test_a_version_made_for_another_base_is_refused(stage: Stage, voice: str, field: str) -> None:
    """Served equals trained: base and template must be the server's own, and the error names both."""
    stage.add_version(V2, **{field: "f" * 64})
    await stage.followed()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(stage, V2)

    assert reason_of(caught.value) == "BASE_MISMATCH"
    assert info_of(caught.value).metadata["wanted"] == "f" * 64


async def test_a_version_whose_rows_were_rendered_otherwise_is_refused(stage: Stage, voice: str) -> None:
    """The receipt tells which of its rows differ; one that is this server's own is served."""
    own = list(stage.model.base.chat_receipt)
    stage.add_version(V2, receipt=[*own[:3], "f" * 64, *own[4:]])
    stage.add_version(V3, receipt=own)
    await stage.followed()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(stage, V2)

    assert (reason_of(caught.value), info_of(caught.value).metadata["rows"]) == ("RECEIPT_MISMATCH", "3")
    assert await say(stage, V3)


async def test_a_retired_version_leaves_engine_and_disk_when_its_streams_end(stage: Stage, voice: str) -> None:
    """Undeployment waits for the stream, which ends well, then takes the adapter out and its files away."""
    stage.engine.pause_after(1)
    stream = aiter(stage.chat.Chat(question(V1, max_output_tokens=8), metadata=ACME))
    await anext(stream)
    stage.registry.remove(V1)
    await stage.followed()
    stage.engine.go_on()

    last = [piece async for piece in stream][-1]
    await stage.disk_emptied()

    assert last.finish.version == V1
    assert not (await stage.residency()).adapters


async def test_a_load_happens_once_for_many_callers(stage: Stage, voice: str) -> None:
    """Requests that come together for a version that is not there share one load."""
    stage.add_version(V2)
    await stage.followed()
    streams = [stage.chat.Chat(question(V2, max_output_tokens=1), metadata=ACME) for _ in range(8)]

    answers = [[piece async for piece in stream] for stream in streams]

    assert len(answers) == 8
    assert stage.registry.num_downloads == 2  # one for each version


async def test_the_server_serves_on_without_the_registry(stage: Stage, voice: str) -> None:
    """The registry's end is noticed and changes nothing for callers."""
    await stage.registry.close()
    await stage.lost_registry()

    assert await say(stage) == voice


async def test_the_server_catches_up_when_the_registry_comes_back(stage: Stage, voice: str) -> None:
    """What was promoted meanwhile answers after the reconnection."""
    await stage.registry.close()
    new_voice = stage.add_version(V2)
    stage.promote(V2, previous=V1)

    await stage.registry.open()
    await stage.followed()

    assert await say(stage) == new_voice


async def test_the_server_starts_and_serves_while_the_registry_is_down(stage: Stage, voice: str) -> None:
    """Routes and keys come from the snapshot, adapters from the disk."""
    await stage.stop()
    await stage.registry.close()

    await stage.start()
    await stage.served()

    assert await say(stage) == voice


async def test_a_damaged_snapshot_is_ignored(stage: Stage, voice: str) -> None:
    """One flipped byte and the file counts as absent: the registry tells everything again."""
    await stage.stop()
    snapshot = stage.folder / "serve" / "routing.snapshot"
    snapshot.write_bytes(snapshot.read_bytes()[:-1] + b"\xff")

    await stage.start()
    await stage.followed()

    assert await say(stage) == voice


async def test_a_registry_that_went_back_is_not_followed(stage: Stage, voice: str) -> None:
    """A registry restored from a backup does not undo what is served; operators see that it is not followed."""
    await stage.registry.close()
    await stage.lost_registry()
    old = FakeRegistry()
    old.address = stage.registry.address
    async with old:
        await old.watched()

        assert await say(stage) == voice
        assert not (await stage.residency()).following


async def test_a_server_that_never_heard_the_registry_is_not_serving(stage: Stage) -> None:
    """Without any state every key would look unknown: callers are told to retry instead."""
    await stage.stop()
    await stage.registry.close()
    stage.folder /= "fresh"
    stage.folder.mkdir()
    await stage.start()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(stage)

    assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.UNAVAILABLE, "REGISTRY_NOT_HEARD")
    await stage.served("NOT_SERVING")
