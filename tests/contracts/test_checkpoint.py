"""The best adapter in its file: what comes back is what was kept, and nothing stays behind."""

from pathlib import Path

import pytest
import torch

from tests.contracts.training_stand import Stand, build_base
from trainer_svc.memory.techniques import ComputePrecision
from trainer_svc.worker.checkpoint import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=list(ComputePrecision))
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """A base with an adapter, in what it may be computed in."""
    folder = tmp_path_factory.mktemp("base")
    build_base(folder, "llama")
    return Stand.build(folder, compute=request.param)


def _disturb(stand: Stand) -> None:
    stand.adapter.masters.add_(torch.rand_like(stand.adapter.masters))
    stand.adapter.refresh_copies()


def test_the_last_adapter_that_was_kept_comes_back_bit_by_bit(stand: Stand, tmp_path: Path) -> None:
    """Its fp32 masters and the copies that are computed with."""
    with Checkpoint(tmp_path / "checkpoint") as checkpoint:
        checkpoint.write(stand.adapter)
        _disturb(stand)
        checkpoint.write(stand.adapter)
        masters, down = stand.adapter.masters.clone(), stand.adapter.groups[0]["qkv"].down.clone()
        _disturb(stand)
        checkpoint.restore(stand.adapter)

    assert torch.equal(stand.adapter.masters, masters)
    assert torch.equal(stand.adapter.groups[0]["qkv"].down, down)


def test_a_file_that_was_cut_short_is_refused(stand: Stand, tmp_path: Path) -> None:
    """An adapter of which a part is missing must not be staged."""
    file = tmp_path / "checkpoint"
    with Checkpoint(file) as checkpoint:
        checkpoint.write(stand.adapter)
        file.write_bytes(file.read_bytes()[:-4])
        with pytest.raises(EOFError):
            checkpoint.restore(stand.adapter)


def test_nothing_stays_behind_however_training_ends(stand: Stand, tmp_path: Path) -> None:
    """Neither after an error nor after a write that failed halfway."""

    def train() -> None:
        with Checkpoint(tmp_path / "checkpoint") as checkpoint:
            checkpoint.write(stand.adapter)
            (tmp_path / "checkpoint.part").write_bytes(b"half of an adapter")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()

    assert list(tmp_path.iterdir()) == []
