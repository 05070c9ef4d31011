"""What an operator can set on trainer_svc, with defaults for one machine that runs both services."""

import sys
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from adaptory.core.settings import ServiceSettings

_STATE_DIR = platformdirs.user_state_path("adaptory") / "trainer"

# What a worker may see of the service's own environment: where programs, devices and temporary files are. No keys, no settings.
_WORKER_VARIABLES = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "HF_HUB_OFFLINE",
        "HOME",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "MKL_NUM_THREADS",
        "NVIDIA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "PATH",
        "PYTHONPATH",
        "TMPDIR",
        "TZ",
        "VIRTUAL_ENV",
    }
)


class TrainerSettings(ServiceSettings):
    """Settings of one trainer; each is also the variable ADAPTORY_TRAINER_NAME or a key of the TOML file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="ADAPTORY_TRAINER_")

    address: str = "127.0.0.1:50071"
    """Where gRPC is served, HOST:PORT; port 0 takes a free one."""
    metrics_address: str = "127.0.0.1:9471"
    """Where Prometheus metrics are served over HTTP, HOST:PORT."""
    state_dir: Path = _STATE_DIR
    """Database, artifacts, uploads, workspaces, keys and endpoint.json."""
    database_url: str = ""
    """An SQLAlchemy URL; left out, an SQLite file in `state_dir`."""
    admin_key_file: Path | None = None
    """The operator's key; left out, `admin.key` in `state_dir`, made at the first start."""
    server_key_file: Path | None = None
    """The key of serve_svc; left out, `server.key` in `state_dir`, made at the first start."""
    cache_dir: Path | None = None
    """Where prepared bases are; left out, the user's cache folder or ADAPTORY_CACHE_DIR."""

    max_dataset_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """Larger datasets are refused with RESOURCE_EXHAUSTED while they are uploaded."""
    max_adapter_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """Larger uploads of an adapter to be imported are refused with RESOURCE_EXHAUSTED."""
    max_line_bytes: int = Field(default=256 * 1024, ge=64)
    """Longer lines make a dataset REJECTED."""
    max_entries: int = Field(default=100_000, ge=1)
    """More entries make a dataset REJECTED."""
    max_rows: int = Field(default=200_000, ge=2)
    """More rows, such as questions of an FAQ, make a dataset REJECTED."""
    max_dataset_tokens: int = Field(default=50_000_000, ge=1)
    """More tokens make a dataset REJECTED."""
    base_model: str = "smollm2-135m-instruct"
    """By whose tokenizer a dataset is measured when its caller names no base; where it is not prepared, tokens are not counted."""

    max_concurrent_jobs: int = Field(default=1, ge=1, le=64)
    """Workers at once; each may take its job's whole memory limit."""
    max_adapter_rank: int = Field(default=16, ge=1, le=64)
    """Higher ranks are refused. Keep it equal to the servers' `max_lora_rank`, which they pay for with every token."""
    worker_command: tuple[str, ...] = (sys.executable, "-m", "trainer_svc.worker")
    """What is begun for each attempt; the path of its workspace is appended."""
    speed_command: tuple[str, ...] = (sys.executable, "-m", "trainer_svc.worker.speed")
    """What measures the device once per machine; the path of the file in the cache is appended. Empty: plans tell no seconds."""
    worker_poll_seconds: float = Field(default=0.25, gt=0)
    """How often a worker's progress is read, and so how soon a cancellation reaches it."""
    heartbeat_timeout_seconds: float = Field(default=60.0, gt=0)
    """A worker without a sign of life for so long is killed, and its job FAILED."""
    worker_stop_grace_seconds: float = Field(default=10.0, gt=0)
    """How long a worker may take to end after SIGTERM before it is killed."""
    code_tests_seconds: float = Field(default=120.0, gt=0)
    """How long the tests of one job's held-out tasks may run, all together; those whose time does not come are not counted."""

    @property
    def effective_database_url(self) -> str:
        """The database that is used."""
        return self.database_url or f"sqlite:///{(self.state_dir / 'registry.db').absolute()}"

    @property
    def effective_admin_key_file(self) -> Path:
        """The operator's key file that is used."""
        return self.admin_key_file or self.state_dir / "admin.key"

    @property
    def effective_server_key_file(self) -> Path:
        """The server's key file that is used."""
        return self.server_key_file or self.state_dir / "server.key"


def select_worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables a worker may see."""
    return {name: value for name, value in environment.items() if name in _WORKER_VARIABLES}
