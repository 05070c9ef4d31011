"""A short history of many tenants on vLLM itself: `tests/fakes/history.py` says what happens, and what must never be heard."""

from pathlib import Path

import pytest

from tests.contracts.vllm_ground import VllmGround
from tests.fakes.history import NUM_ADAPTERS, NUM_TENANTS, History
from tests.fakes.town import Town

# torch and vLLM warn about each other while an engine is built.
pytestmark = pytest.mark.filterwarnings("ignore")


# It builds three engines, each of which takes a slow machine more than a minute.
@pytest.mark.timeout(900)
async def test_nobody_hears_a_foreign_word_on_vllm(parity_base: Path, tmp_path: Path) -> None:
    """300 steps of deploys, swaps, rollbacks, evictions, failures and requests over 32 adapters, one NaN and one death among them."""
    ground = VllmGround(parity_base, tmp_path / "ground")
    folders = ground.write_adapters(tmp_path / "words", NUM_ADAPTERS)
    town = Town(tmp_path / "store", ground, folders, NUM_TENANTS, seed=0)
    await town.open()
    # Each costs a new engine: they come when the test says so.
    history = History(town, seed=0, disasters=0)
    history.move_in()
    try:
        await history.run(100)
        await history.poison()
        await history.run(50)
        await town.recover()
        await history.run(50)
        await history.kill()
        await history.run(50)
        await town.recover()
        await history.run(50)
        num_heard = history.num_heard
        await history.rest()
    except Exception as error:
        error.add_note(f"its last steps: {', '.join(history.trail)}")
        raise
    finally:
        await town.close()

    # The dead one, its successor, and perhaps one between them: the version that computed NaN may be retired before anybody asks it.
    assert len(town.backends) in {2, 3}
    # Somebody was answered, by adapters that made room for each other: some 200 to 400 words, and some forty evictions.
    assert num_heard > 100
    assert len(town.observer.unloaded) > NUM_TENANTS
