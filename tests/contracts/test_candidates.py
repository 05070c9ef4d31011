"""Adapters that may become a version: what comes back is what was kept, the right one is chosen, and nothing stays behind."""

from itertools import pairwise
from math import nan
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.training_stand import Stand, build_base
from trainer_svc.memory.techniques import ComputePrecision
from trainer_svc.worker.candidates import MAX_KEPT, Candidates
from trainer_svc.worker.choice import Choice, Chooser

pytestmark = pytest.mark.filterwarnings("ignore")
BASE_LOSS = 3.0


@pytest.fixture(scope="module", params=list(ComputePrecision))
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """A base with an adapter, in what it may be computed in."""
    folder = tmp_path_factory.mktemp("base")
    build_base(folder, "llama")
    return Stand.build(folder, compute=request.param)


def _disturb(stand: Stand) -> None:
    stand.adapter.masters.add_(torch.rand_like(stand.adapter.masters))
    stand.adapter.refresh_copies()


def _choose(stand: Stand, folder: Path, rises: list[float], max_rise: float | None) -> Choice:
    """Choose among the adapters of steps 1, 2 and so on, the last the best; each has its step in all values and loses so much."""

    def measure() -> float:
        return BASE_LOSS + rises[round(stand.adapter.masters[0].item()) - 1]

    with Candidates(folder) as candidates:
        for step in range(1, len(rises) + 1):
            stand.adapter.masters.fill_(step)
            candidates.add(step, 1 / step, stand.adapter)
        return Chooser(candidates.best_first, max_rise).choose(stand.adapter, BASE_LOSS, measure)


def test_each_adapter_that_was_kept_comes_back_bit_by_bit(stand: Stand, tmp_path: Path) -> None:
    """Its fp32 masters and the copies that are computed with."""
    with Candidates(tmp_path / "candidates") as candidates:
        kept = []
        for step in (1, 2):
            _disturb(stand)
            candidates.add(step, 1 / step, stand.adapter)
            kept.append((stand.adapter.masters.clone(), stand.adapter.groups[0]["qkv"].down.clone()))
        for candidate, (masters, down) in zip(candidates.best_first, kept[::-1], strict=True):
            candidate.restore(stand.adapter)
            assert torch.equal(stand.adapter.masters, masters)
            assert torch.equal(stand.adapter.groups[0]["qkv"].down, down)


@given(gaps=st.lists(st.integers(1, 50), min_size=1, max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_few_are_kept_the_best_among_them_and_the_others_spread_over_the_steps(
    stand: Stand, tmp_path_factory: pytest.TempPathFactory, gaps: list[int]
) -> None:
    """However many steps were measured: no more files than said, and the newest of them."""
    folder = tmp_path_factory.mktemp("many") / "candidates"
    steps = [sum(gaps[: place + 1]) for place in range(len(gaps))]
    with Candidates(folder) as candidates:
        for step in steps:
            candidates.add(step, 1 / step, stand.adapter)
            assert len(list(folder.iterdir())) == len(candidates.best_first) <= MAX_KEPT
        kept = [candidate.step for candidate in candidates.best_first]

    assert kept == sorted(kept, reverse=True)
    assert kept[0] == steps[-1]
    assert len(kept) == min(len(steps), MAX_KEPT)
    assert set(kept) <= set(steps)


def test_of_an_even_course_those_kept_lie_evenly(stand: Stand, tmp_path: Path) -> None:
    """Of twenty epochs, none is more than a third of the course behind the one kept before it."""
    with Candidates(tmp_path / "candidates") as candidates:
        for step in range(10, 201, 10):
            candidates.add(step, 1 / step, stand.adapter)
        kept = [0, *sorted(candidate.step for candidate in candidates.best_first)]

    assert max(after - before for before, after in pairwise(kept)) <= 200 / 3


@pytest.mark.parametrize(
    ("rises", "max_rise", "step"),
    [
        ([0.1, 0.5, 1.9], 2.0, 3),
        ([0.1, 0.5, 2.1], 2.0, 2),
        ([0.1, 2.5, 2.1], 2.0, 1),
        ([0.1, 0.5, nan], 2.0, 2),
        ([2.2, 2.5, 2.1], 2.0, 3),
        ([2.2, 2.5, 9.9], None, 3),
    ],
)
def test_kept_is_the_best_that_the_gate_allows(
    stand: Stand, tmp_path: Path, rises: list[float], max_rise: float | None, step: int
) -> None:
    """Or the best of all where it allows none; the adapter has that one's values, and the loss told is its own."""
    choice = _choose(stand, tmp_path / "candidates", rises, max_rise)

    assert choice.step == step
    assert choice.general_loss == pytest.approx(BASE_LOSS + rises[step - 1])
    assert torch.all(stand.adapter.masters == step)
    assert [tried.candidate.step for tried in choice.passed_over] == list(range(len(rises), step, -1))


def test_without_candidates_the_adapter_is_judged_as_it_is(stand: Stand) -> None:
    """A training of which no loss was finite has none, and an adapter that was given neither."""
    stand.adapter.masters.fill_(7)
    choice = Chooser().choose(stand.adapter, BASE_LOSS, lambda: nan)

    assert (choice.step, choice.kept, choice.passed_over) == (0, None, ())
    assert torch.all(stand.adapter.masters == 7)


def test_a_file_that_was_cut_short_is_refused(stand: Stand, tmp_path: Path) -> None:
    """An adapter of which a part is missing must not be staged."""
    with Candidates(tmp_path / "candidates") as candidates:
        candidates.add(1, 1.0, stand.adapter)
        [candidate] = candidates.best_first
        candidate.file.write_bytes(candidate.file.read_bytes()[:-4])
        with pytest.raises(EOFError):
            candidate.restore(stand.adapter)


def test_nothing_stays_behind_however_training_ends(stand: Stand, tmp_path: Path) -> None:
    """Neither after an error nor after a write that failed halfway."""

    def train() -> None:
        with Candidates(tmp_path / "candidates") as candidates:
            candidates.add(1, 1.0, stand.adapter)
            (tmp_path / "candidates" / "step-2.part").write_bytes(b"half of an adapter")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()

    assert list(tmp_path.iterdir()) == []
