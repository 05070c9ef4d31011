"""`python -m trainer_svc` as an operator starts it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from adaptory.core.errors import InvalidRequest
from adaptory.trainer.v1 import training_job_pb2
from tests.fakes.base import write_base
from tests.fakes.trainer import Trainer
from trainer_svc.settings import TrainerSettings, select_worker_environment

COMMAND = (sys.executable, "-m", "trainer_svc")


def start(folder: Path, config: str = "") -> subprocess.Popen[str]:
    """Start the program on free ports, with `config` behind the settings that every test needs."""
    file = folder / "trainer.toml"
    file.write_text(
        f'address = "127.0.0.1:0"\nmetrics_address = "127.0.0.1:0"\nstate_dir = "{folder / "state"}"\n{config}'
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTORY_")}
    return subprocess.Popen(
        [*COMMAND, "--config", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_it_says_where_it_listens_and_drains_on_sigterm(tmp_path: Path) -> None:
    """One line with the addresses, the same in endpoint.json; health is SERVING; SIGTERM ends it with 0 and removes the file."""
    with start(tmp_path) as program:
        assert program.stdout is not None
        ready = json.loads(program.stdout.readline())
        endpoint = json.loads((tmp_path / "state" / "endpoint.json").read_text())
        with grpc.insecure_channel(ready["grpc"]) as channel:
            request = health_pb2.HealthCheckRequest(service="adaptory.trainer.v1.TrainerService")
            stub: Any = health_pb2_grpc.HealthStub(channel)
            health = stub.Check(request, timeout=10)
        program.send_signal(signal.SIGTERM)

    assert ready == {"event": "trainer_ready", **endpoint}
    assert (health.status, program.returncode) == (health_pb2.HealthCheckResponse.SERVING, 0)
    assert not (tmp_path / "state" / "endpoint.json").exists()


async def test_a_killed_trainer_goes_on_with_its_jobs(tmp_path: Path) -> None:
    """After SIGKILL the next start gives the attempt up, tries the job once more, and finishes it."""
    write_base(tmp_path / "cache")
    worker = json.dumps([sys.executable, "-m", "tests.fakes.worker", "work_until_stopped"])
    trainer = Trainer(tmp_path)
    with start(
        tmp_path, f'cache_dir = "{tmp_path / "cache"}"\nworker_command = {worker}\nspeed_command = []'
    ) as program:
        assert program.stdout is not None
        await trainer.connect(json.loads(program.stdout.readline())["grpc"])
        await trainer.add_tenant("aurora")
        job = await trainer.submit("aurora")
        await trainer.reached(job.name, "RUNNING")
        program.kill()
    await trainer.stop()

    async with trainer:
        ended = await trainer.ended(job.name)
        messages = [event.message async for event in trainer.watch(job.name) if event.message]

    assert ended.state == training_job_pb2.TrainingJob.STATE_SUCCEEDED
    assert "tried once more" in messages[0]


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    """The operator's and the server's key are made at the first start, readable by nobody else."""
    with start(tmp_path) as program:
        assert program.stdout is not None
        program.stdout.readline()
        program.send_signal(signal.SIGTERM)

    keys = [tmp_path / "state" / name for name in ("admin.key", "server.key")]
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600, 0o600]
    assert len({key.read_text() for key in keys}) == 2


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('adress = "127.0.0.1:1"\nmax_entries = 0', ["adress", "max_entries"]),
        ("no toml", ["TOML"]),
    ],
)
def test_bad_settings_are_all_named(tmp_path: Path, config: str, told: list[str]) -> None:
    """It ends with 2, says everything that is wrong, and shows no traceback."""
    with start(tmp_path, config) as program:
        _, complaint = program.communicate(timeout=60)

    assert program.returncode == 2
    assert all(word in complaint for word in told)
    assert "Traceback" not in complaint


def test_two_trainers_never_share_a_state_folder(tmp_path: Path) -> None:
    """The second one is told so, and ends with 2."""
    with start(tmp_path) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with start(tmp_path) as second:
            _, complaint = second.communicate(timeout=60)
        first.send_signal(signal.SIGTERM)

    assert (second.returncode, "in use by another process" in complaint) == (2, True)


def test_an_address_others_can_reach_needs_tls() -> None:
    """Keys never cross a network in clear."""
    with pytest.raises(ValueError, match="tls_certificate"):
        TrainerSettings(address="0.0.0.0:50071")


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that would silently not be set stops the start."""
    monkeypatch.setenv("ADAPTORY_TRAINER_STATEDIR", "elsewhere")

    with pytest.raises(InvalidRequest) as refused:
        TrainerSettings.load()

    assert [violation.field for violation in refused.value.violations] == ["ADAPTORY_TRAINER_STATEDIR"]


def test_a_worker_sees_no_secrets() -> None:
    """Of the service's environment a worker gets what it needs and nothing else."""
    environment = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "ADAPTORY_TRAINER_ADMIN_KEY_FILE": "y"}

    assert select_worker_environment(environment) == {"PATH": "/bin"}
