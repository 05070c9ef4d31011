"""What a machine says of its CUDA device, asked through NVIDIA's command; here a small program answers in its place."""

import os
from pathlib import Path

import pytest

from adaptory.core.errors import FailedPrecondition
from trainer_svc.jobs.machine import LocalMachine
from trainer_svc.memory.techniques import ComputePrecision, DeviceKind


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalMachine:
    """A machine with a CUDA device, whose command is looked for in `bin` first."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    machine = LocalMachine(tmp_path)
    machine.device = DeviceKind.CUDA
    return machine


def _answer(folder: Path, script: str) -> None:
    """Have the command answer as a script does."""
    command = folder / "bin" / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


@pytest.mark.parametrize(
    ("capability", "compute"),
    [
        ("7.0", ComputePrecision.FP16),
        ("7.5", ComputePrecision.FP16),
        ("8.0", ComputePrecision.BF16),
        ("8.9", ComputePrecision.BF16),
        ("12.0", ComputePrecision.BF16),
    ],
)
def test_cards_below_compute_capability_8_compute_in_fp16(
    card: LocalMachine, tmp_path: Path, capability: str, compute: ComputePrecision
) -> None:
    """V100 and T4 have no bf16; an A100 and all behind it do, and are asked by number, not by letter."""
    _answer(tmp_path, f'case "$*" in *--query-gpu=compute_cap*) echo {capability};; *) exit 2;; esac')

    assert card.read_compute() is compute


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'", "echo 'Field \"compute_cap\" is not a valid field'"])
def test_a_card_that_does_not_say_is_not_guessed_at(card: LocalMachine, tmp_path: Path, script: str) -> None:
    """bf16 on a card without it would fail in the middle of a job: the error says what to look at."""
    _answer(tmp_path, script)

    with pytest.raises(FailedPrecondition, match="nvidia-smi --query-gpu=compute_cap") as refused:
        card.read_compute()

    assert refused.value.reason == "DEVICE_UNKNOWN"


def test_a_cpu_computes_in_bf16(tmp_path: Path) -> None:
    """Without a card nobody is asked."""
    machine = LocalMachine(tmp_path)
    machine.device = DeviceKind.CPU

    assert machine.read_compute() is ComputePrecision.BF16
