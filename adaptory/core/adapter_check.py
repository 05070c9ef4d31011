"""The one judge of adapter files: what it accepts, vLLM loads and serves as it was trained.

serve_svc asks it before loading a version, which every fault forbids. trainer_svc asks before registering one, and keeps an adapter
whose values alone are at fault: a training that diverged can be looked at, and is never served. It reads both files without
torch or vLLM and leaves alone what files cannot show: which base an adapter was trained on, how good it is.
"""

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adaptory.core.adapter_config import AdapterConfig, parse_adapter_config
from adaptory.core.adapter_weights import measure_norm
from adaptory.core.base_shape import BaseShape
from adaptory.core.digests import digest_listing
from adaptory.core.errors import AdapterRejected
from adaptory.core.safetensors_header import TensorEntry, quote, read_header

__all__ = ["AdapterLimits", "AdapterReport", "BaseShape", "adapter_digest", "check_adapter", "inspect_adapter"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE)
_MAX_CONFIG_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    """How much an adapter may be.

    `max_norm` bounds, for each module, |A|, scale*|B| and scale*|B|*|A| in Frobenius norms: the last is an
    upper bound of what the adapter can add per unit of input. A trained adapter measured 8; far beyond the
    default the engine's 16-bit activations overflow, and the NaN that follow reach other tenants through reused cache blocks.
    """

    max_rank: int = 64
    max_bytes: int = 1 << 30
    max_header_bytes: int = 1 << 20
    max_tensors: int = 4096
    max_norm: float = 1000.0


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """What a well-formed adapter is: its largest rank, the short names of its modules (q_proj), sorted.

    `fault` is why its values must not be served (NOT_FINITE, NORM_ABOVE_LIMIT), None where they may.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    num_parameters: int
    digest: str
    size_bytes: int
    fault: AdapterRejected | None = None


def adapter_digest(folder: Path) -> str:
    """Return an adapter's content address: SHA-256 over the "<sha256>  <file name>" lines of its two files.

    Raises:
        AdapterRejected: FOLDER_LAYOUT where one of the two is missing or no regular file.
    """
    digests = {}
    for name in ADAPTER_FILES:
        with _open_regular(folder, name) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digest_listing(digests)


def check_adapter(folder: Path, base: BaseShape, limits: AdapterLimits) -> AdapterReport:
    """Judge the adapter in `folder` for serving on a base of this shape.

    Raises:
        AdapterRejected: With reason FOLDER_LAYOUT, TOO_LARGE, CONFIG_INVALID, UNSUPPORTED_FEATURE,
            RANK_ABOVE_LIMIT, HEADER_INVALID, DTYPE_UNSUPPORTED, TENSOR_SET_MISMATCH, SHAPE_MISMATCH,
            NOT_FINITE or NORM_ABOVE_LIMIT.
    """
    report = inspect_adapter(folder, base, limits)
    if report.fault is not None:
        raise report.fault
    return report


def inspect_adapter(folder: Path, base: BaseShape, limits: AdapterLimits) -> AdapterReport:
    """Judge the adapter in `folder` as `check_adapter` does, but tell a fault of its values in the report.

    Raises AdapterRejected with any other of its reasons.
    """
    _check_layout(folder)
    config = _read_config(folder, limits)
    shapes = base.linear_shapes()
    modules = config.select_modules(shapes)
    with _open_regular(folder, WEIGHTS_FILE) as descriptor:
        size_bytes = _check_size(descriptor, WEIGHTS_FILE, limits.max_bytes)
        tensors = read_header(descriptor, max_header_bytes=limits.max_header_bytes, max_tensors=limits.max_tensors)
        _check_tensor_set(set(tensors), modules)
        adapted = [_Module(module, shapes[module], config) for module in sorted(modules)]
        for module in adapted:
            _check_shapes(module, tensors)
        fault = _find_fault(descriptor, adapted, tensors, limits.max_norm)
    return AdapterReport(
        rank=max(config.rank_of(module) for module in modules),
        alpha=config.alpha,
        target_modules=tuple(sorted({module.rpartition(".")[2] for module in modules})),
        num_parameters=sum(tensor.num_elements for tensor in tensors.values()),
        digest=adapter_digest(folder),
        size_bytes=size_bytes + (folder / CONFIG_FILE).stat().st_size,
        fault=fault,
    )


@dataclass(frozen=True, slots=True)
class _Module:
    """One adapted linear layer: its name, its (in, out) features, the config that says its rank and scale."""

    name: str
    shape: tuple[int, int]
    config: AdapterConfig

    def tensor_shapes(self) -> dict[str, tuple[int, int]]:
        """Map the names of A and B, in this order, to the shapes they must have."""
        num_in, num_out = self.shape
        rank = self.config.rank_of(self.name)
        name_a, name_b = _tensor_names(self.name)
        return {name_a: (rank, num_in), name_b: (num_out, rank)}


def _tensor_names(module: str) -> tuple[str, str]:
    """PEFT's names of A and B as `save_pretrained` writes them."""
    prefix = f"base_model.model.{module}"
    return f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight"


def _check_layout(folder: Path) -> None:
    """Exactly the two files: vLLM would fall back to a pickle, and nothing else here has a reader we know."""
    try:
        found = {entry.name for entry in folder.iterdir()}
    except OSError as err:
        raise _reject("FOLDER_LAYOUT", f"The adapter's folder cannot be listed: {err.strerror}") from err
    if missing := sorted(set(ADAPTER_FILES) - found):
        raise _reject("FOLDER_LAYOUT", f"The adapter lacks {' and '.join(missing)}", file=missing[0])
    if extra := sorted(found - set(ADAPTER_FILES)):
        raise _reject(
            "FOLDER_LAYOUT",
            f"The adapter's folder holds {quote(extra[0])} beside {' and '.join(ADAPTER_FILES)}; remove it",
            file=quote(extra[0]),
        )


@contextmanager
def _open_regular(folder: Path, name: str) -> Iterator[int]:
    """Open a file of the adapter to read; links, pipes and devices are refused, and opening never blocks."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        raise _reject("FOLDER_LAYOUT", f"{name} is no file to read: {err.strerror}", file=name) from err
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _reject("FOLDER_LAYOUT", f"{name} is not a regular file", file=name)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_size(descriptor: int, name: str, max_bytes: int) -> int:
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes > max_bytes:
        raise _reject("TOO_LARGE", f"{name} has {size_bytes} bytes; at most {max_bytes} are allowed", file=name)
    return size_bytes


def _read_config(folder: Path, limits: AdapterLimits) -> AdapterConfig:
    with _open_regular(folder, CONFIG_FILE) as descriptor:
        size_bytes = _check_size(descriptor, CONFIG_FILE, _MAX_CONFIG_BYTES)
        config = parse_adapter_config(os.pread(descriptor, size_bytes, 0))
    if config.max_rank > limits.max_rank:
        raise _reject(
            "RANK_ABOVE_LIMIT",
            f"The adapter has rank {config.max_rank}; at most {limits.max_rank} is served: train a lower rank",
            rank=config.max_rank,
            max_rank=limits.max_rank,
        )
    return config


def _check_tensor_set(found: set[str], modules: set[str]) -> None:
    """Ask for A and B of every module the config names, no more: vLLM serves part of a set without a word."""
    expected = {name for module in modules for name in _tensor_names(module)}
    if not expected:
        raise _reject("TENSOR_SET_MISMATCH", "The adapter's config selects no layer of the base")
    if missing := sorted(expected - found):
        raise _reject(
            "TENSOR_SET_MISMATCH",
            f"{len(missing)} of {len(expected)} tensors named by the config are missing, first {missing[0]}",
            tensor=missing[0],
        )
    if extra := sorted(found - expected):
        raise _reject(
            "TENSOR_SET_MISMATCH",
            f"{len(extra)} tensors belong to no module that the config names, first {quote(extra[0])}",
            tensor=quote(extra[0]),
        )


def _check_shapes(module: _Module, tensors: Mapping[str, TensorEntry]) -> None:
    for name, shape in module.tensor_shapes().items():
        if tensors[name].shape != shape:
            raise _reject(
                "SHAPE_MISMATCH",
                f"{name} has shape {list(tensors[name].shape)}; base and rank ask for {list(shape)}",
                tensor=name,
            )


def _find_fault(
    descriptor: int, modules: Iterable[_Module], tensors: Mapping[str, TensorEntry], max_norm: float
) -> AdapterRejected | None:
    """Return why the values of the first module that is not fit to be served are not."""
    for module in modules:
        norms = {name: measure_norm(descriptor, tensors[name]) for name in module.tensor_shapes()}
        for name, norm in norms.items():
            if not math.isfinite(norm):
                return _reject("NOT_FINITE", f"{name} holds NaN or infinity: the training diverged", tensor=name)
        norm_a, norm_b = norms.values()
        norm_b *= module.config.scale_of(module.name)
        norm = max(norm_a, norm_b, norm_a * norm_b)
        if norm <= max_norm:
            continue
        return _reject(
            "NORM_ABOVE_LIMIT",
            f"{module.name} changes its base by a norm of up to {norm:.3g}, more than {max_norm:.3g}: "
            "train with a lower learning rate or lora_alpha",
            module=module.name,
            norm=f"{norm:.3g}",
            max_norm=max_norm,
        )
    return None


def _reject(reason: str, message: str, **metadata: object) -> AdapterRejected:
    return AdapterRejected(message, reason=reason, metadata=metadata)
