"""Where a worker computes and how its memory is counted, limited and measured: the CPU's process data, or a CUDA device.

Everything counts above a *baseline*: the worker with its libraries loaded and warm, before rows and base. Owns the limit and the
measured peaks; what a job should take is predicted by `trainer_svc.memory`.
"""

import ctypes
import os
import resource
from pathlib import Path
from typing import Protocol

import torch

from trainer_svc.memory.techniques import MANY_KERNEL_SIZES, ComputePrecision, DeviceKind, choose_compute
from trainer_svc.worker.compute import dtype_of

# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MAX_MMAP_THRESHOLD_BYTES = 32 << 20
_NEVER_TRIM_BYTES = 1 << 30
_LASTING_BYTES = 64 << 10
# Kernels a step needs for one size, and those of the loss and the warm-up (counted with ONEDNN_VERBOSE on the Llama family).
_KERNELS_PER_SIZE, _OTHER_KERNELS = 35, 8
_KILOBYTE = 1024
# How PyTorch and oneDNN word a failed allocation on the CPU; neither has an exception of its own for it.
_KERNEL_FAILURE = "could not create a primitive"
_ALLOCATION_FAILURES = (
    "can't allocate memory",
    _KERNEL_FAILURE,
    "could not create a memory",
    "bad_alloc",
)


class Memory(Protocol):
    """The memory of the device a job runs on, in bytes above the baseline."""

    def limit(self, limit_bytes: int) -> None:
        """Make every allocation fail that would take the job above the limit."""

    def lift(self) -> None:
        """Take the limit away, so that a job that hit it can still say so."""

    def begin_phase(self) -> None:
        """Forget the peaks so far."""

    def note(self) -> None:
        """Take note of what is taken now: some peaks are seen only when they are looked at."""

    def require_kernel_room(self, room_bytes: int) -> None:
        """Fail now, like any allocation, where the device's matrix library would find no room for its kernels."""

    def peak_bytes(self) -> int:
        """Return the most of the limit that was taken since the phase began."""

    def used_peak_bytes(self) -> int:
        """Return the most that was in use since the phase began: of what is taken, some is never written to."""


class HostMemory:
    """The process's own data, limited by RLIMIT_DATA; what is in use is resident memory, pages of library files aside.

    The kernel keeps no peak of the data: it is that of the notes, each micro-batch's. Between two notes only what one operation
    returns can come and go, since all that is large is taken at set-up.
    """

    def __init__(self) -> None:
        """Take the baseline now."""
        self._baseline_data_bytes = _read_status("VmData")
        self._baseline_resident_bytes = _read_status("VmRSS") - _read_status("RssFile")
        self._noted_bytes = 0

    def limit(self, limit_bytes: int) -> None:
        """Let the kernel refuse private writable memory above the baseline and the limit."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (self._baseline_data_bytes + limit_bytes, hard))

    def lift(self) -> None:
        """Raise the soft limit back to the hard one."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))

    def begin_phase(self) -> None:
        """Forget the notes, and reset the kernel's high-water mark of this process (proc(5), clear_refs)."""
        self._noted_bytes = 0
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def note(self) -> None:
        """Take note of the data there is now."""
        self._noted_bytes = max(self._noted_bytes, _read_status("VmData") - self._baseline_data_bytes)

    def require_kernel_room(self, room_bytes: int) -> None:
        """Ask for the room and give it back. Without it oneDNN falls back to reference kernels, fifty times slower, or is lost."""
        torch.empty(room_bytes, dtype=torch.uint8)

    def peak_bytes(self) -> int:
        """Return the most data that was noted, now included."""
        self.note()
        return max(self._noted_bytes, self.used_peak_bytes())

    def used_peak_bytes(self) -> int:
        """Return the high-water mark above the baseline; library files only ever gain pages, so the present ones were in it."""
        return max(0, _read_status("VmHWM") - _read_status("RssFile") - self._baseline_resident_bytes)


class CudaMemory:
    """A CUDA device's memory as PyTorch's allocator holds it; the context before the job is the baseline."""

    def __init__(self, device: torch.device) -> None:
        """Keep the device; nothing of the job is on it yet."""
        self._device = device

    def limit(self, limit_bytes: int) -> None:
        """Cap the allocator: beyond it PyTorch raises OutOfMemoryError."""
        total_bytes = torch.cuda.get_device_properties(self._device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total_bytes), self._device)

    def lift(self) -> None:
        """Do nothing: saying so takes no device memory."""

    def begin_phase(self) -> None:
        """Reset the allocator's peak."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def note(self) -> None:
        """Do nothing: the allocator keeps its peaks itself."""

    def require_kernel_room(self, room_bytes: int) -> None:
        """Do nothing: kernels are loaded with the context, before the baseline."""

    def peak_bytes(self) -> int:
        """Return the most the allocator reserved."""
        return torch.cuda.max_memory_reserved(self._device)

    def used_peak_bytes(self) -> int:
        """Return the most that tensors took of it."""
        return torch.cuda.max_memory_allocated(self._device)


def settle_process(kernel_sizes: int = MANY_KERNEL_SIZES) -> None:
    """Set what must be set before the first tensor: the host's allocator, the kernels to keep, no autograd.

    One arena, and every large tensor mapped by itself: what is loaded lies without holes, and what is freed goes back at once.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_THRESHOLD, _LASTING_BYTES)
    # Read by oneDNN at its first product; its default of 1024 kernels takes a gigabyte.
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = str(_KERNELS_PER_SIZE * kernel_sizes + _OTHER_KERNELS)
    torch.set_grad_enabled(False)
    # Or cuBLAS may add up parts of a product in fp16, whose range they leave before their sum does.
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def release_heap() -> None:
    """Give back what was freed, and from now on map every large tensor by itself: what is taken now is to last."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LASTING_BYTES)
    libc.malloc_trim(0)


def keep_heap() -> None:
    """From now on keep freed memory for the next allocation; call it when all that lasts has been taken.

    glibc would else unmap and fault in again the passing tensors of each step, which takes longer than the arithmetic on them.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM_BYTES)


def open_device() -> tuple[torch.device, Memory]:
    """Return the device to train on, CUDA where there is one, and its memory at the baseline.

    Thread pools and kernels are started before the baseline is taken: they belong to the libraries.
    """
    # With its index, which the allocator's limit insists on.
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    _warm_up(device)
    return device, CudaMemory(device) if device.type == "cuda" else HostMemory()


def read_compute(device: torch.device) -> ComputePrecision:
    """Return what a device computes in, unless a job's plan says otherwise."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return choose_compute(DeviceKind(device.type), capability)


def describe_device(device: torch.device) -> str:
    """Return what the device is, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _warm_up(device: torch.device) -> None:
    matrix = torch.ones(256, 256, dtype=dtype_of(read_compute(device)), device=device)
    product = torch.addmm(matrix, matrix, matrix.T)
    torch.baddbmm(matrix[None], matrix[None], matrix[None])
    torch.log_softmax(product, -1, dtype=torch.float32).exp_()


def _read_status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * _KILOBYTE
    raise KeyError(field)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILURES)


def is_end_of_kernels(error: BaseException) -> bool:
    """Tell whether oneDNN failed to make a kernel, after which it makes none in this process (`kernel_room`)."""
    return isinstance(error, RuntimeError) and _KERNEL_FAILURE in str(error)
