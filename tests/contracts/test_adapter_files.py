"""An adapter's files, read again by the worker's own adapter."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.contracts.training_stand import SETTINGS, Stand, build_base
from trainer_svc.worker.adapter import Adapter

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """A tiny Llama with an adapter whose weights are no longer zero."""
    folder = tmp_path_factory.mktemp("llama")
    build_base(folder, "llama")
    return Stand.build(folder)


def test_what_was_saved_is_loaded(stand: Stand, tmp_path: Path) -> None:
    """Masters and the copies that compute are those of the adapter that was saved, whatever the fresh one began with."""
    stand.adapter.save(tmp_path)
    fresh = Adapter(stand.base, replace(SETTINGS, seed=7), "tiny")
    assert not torch.equal(fresh.masters, stand.adapter.masters)
    fresh.load(tmp_path)

    assert torch.equal(fresh.masters, stand.adapter.masters)
    for ours, theirs in zip(fresh.groups, stand.adapter.groups, strict=True):
        assert all(torch.equal(ours[name].down, theirs[name].down) for name in ours)


def test_an_adapter_of_another_rank_is_not_loaded(stand: Stand, tmp_path: Path) -> None:
    """Weights of other shapes are an error, not a part of them."""
    stand.adapter.save(tmp_path)

    with pytest.raises(RuntimeError):
        Adapter(stand.base, replace(SETTINGS, rank=4), "tiny").load(tmp_path)
