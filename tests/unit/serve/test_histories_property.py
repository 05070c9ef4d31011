"""10,000 random steps of many tenants on a fake engine: `tests/fakes/history.py` says which, and what must never be heard."""

from contextlib import aclosing
from pathlib import Path

import pytest

from adaptory.core.auth import Caller, Role
from serve_svc.adapters.life import AdapterState
from serve_svc.deadline import Deadline
from serve_svc.engine.engine import Sampling
from serve_svc.generation import Prompt
from tests.fakes.ground import FakeGround
from tests.fakes.history import NUM_ADAPTERS, NUM_TENANTS, History
from tests.fakes.town import Town

NUM_HISTORIES, NUM_STEPS = 25, 400


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters that each say a word of their own."""
    return FakeGround().write_adapters(tmp_path_factory.mktemp("words"), NUM_ADAPTERS)


@pytest.mark.parametrize("seed", range(NUM_HISTORIES))
async def test_nobody_hears_a_foreign_word_in_any_history(folders: list[Path], tmp_path: Path, seed: int) -> None:
    """Every step of every history keeps the promises, and every history comes to rest with nothing left behind."""
    town = Town(tmp_path / "store", FakeGround(), folders, NUM_TENANTS, seed)
    await town.open()
    history = History(town, seed, disasters=1)
    try:
        await history.run(NUM_STEPS)
        await history.rest()
    except Exception as error:
        error.add_note(f"history {seed}, its last steps: {', '.join(history.trail)}")
        raise
    finally:
        await town.close()

    # Between troubles somebody is answered: a history in which nobody is heard would prove nothing.
    assert history.num_heard > NUM_STEPS / 10


async def test_caller_who_leaves_with_the_last_words_saves_nobody(folders: list[Path], tmp_path: Path) -> None:
    """A version that computes NaN amid an answer is in quarantine before its caller hears that the answer is cut."""
    town = Town(tmp_path / "store", FakeGround(), folders, NUM_TENANTS, 0)
    await town.open()
    version = town.deploy(0, 0)
    route = town.router.route(version.name, Caller(Role.TENANT, "t0"))

    async def make_prompt(_: object) -> Prompt:
        return Prompt((1, 2, 3), Sampling(9, 0.0, 1.0, None, ()))

    async with aclosing(town.generation.run(route, make_prompt, Deadline(None, town.closing))) as steps:
        reasons = [(await anext(steps)).reason]
        town.backend.poisoned.add(version.adapter.engine_id)
        reasons.append((await anext(steps)).reason)

    assert reasons == [None, "engine_restarted"]
    assert [known.state for known in town.cache.known()] == [AdapterState.QUARANTINED]
    await town.close()
