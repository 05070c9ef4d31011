"""What a server takes in main memory, part by part, and how many adapters stay loaded within a limit.

Adapters have four tiers: the registry's store, this machine's disk, the engine's memory (`max_cpu_loras`), and the slots that a batch
computes with (`max_loras`). The last two take memory from the start, or as adapters come.
"""

from collections import Counter
from dataclasses import dataclass, replace

from adaptory.core.base_shape import BaseShape
from adaptory.core.errors import InvalidRequest
from serve_svc.routing import RoutingTable
from serve_svc.settings import ServeSettings

# Python, gRPC, torch and vLLM in three processes, with what a batch needs in passing: 1.8 GiB were measured with SmolLM2-135M on CPU.
_PROCESSES_BYTES = 2 * 2**30
_WEIGHT_BYTES = 2  # bf16, whatever the files have
_MAX_RESIDENT = 4096


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes of main memory. `adapter_bytes` is one adapter of the highest rank served, of which `max_resident` stay loaded.

    On a GPU the base, the keys and values and the slots are in its own memory, and 0 here.
    """

    limit_bytes: int | None
    processes_bytes: int
    base_bytes: int
    kv_cache_bytes: int
    slots_bytes: int
    adapter_bytes: int
    max_resident: int

    @property
    def fixed_bytes(self) -> int:
        """What is taken before the first adapter is loaded."""
        return self.processes_bytes + self.base_bytes + self.kv_cache_bytes + self.slots_bytes

    @property
    def total_bytes(self) -> int:
        """What is taken when every place is."""
        return self.fixed_bytes + self.max_resident * self.adapter_bytes

    def describe(self) -> str:
        """Return one line for people."""
        limit = f" of {_mib(self.limit_bytes)}" if self.limit_bytes is not None else ", without a limit"
        return (
            f"processes {_mib(self.processes_bytes)} + base {_mib(self.base_bytes)} + keys and values {_mib(self.kv_cache_bytes)} + "
            f"slots {_mib(self.slots_bytes)} + {self.max_resident} adapters of {_mib(self.adapter_bytes)} = "
            f"{_mib(self.total_bytes)}{limit}"
        )


def plan_capacity(settings: ServeSettings, shape: BaseShape, base_bytes: int, *, on_cpu: bool) -> Capacity:
    """Return what a server of these settings takes. Under a memory limit as many adapters stay loaded as fit, unless a number is set.

    `base_bytes` are those of the base's weights. Raises InvalidRequest when the limit does not hold what is asked for.
    """
    widths = sum(num_in + num_out for num_in, num_out in shape.linear_shapes().values())
    # vLLM pads every slot and every adapter to the highest rank, and on CPU it has one slot more, for the bare base.
    adapter_bytes = settings.max_lora_rank * _WEIGHT_BYTES * widths
    capacity = Capacity(
        limit_bytes=settings.memory_limit_bytes,
        processes_bytes=_PROCESSES_BYTES,
        base_bytes=base_bytes if on_cpu else 0,
        kv_cache_bytes=settings.kv_cache_bytes if on_cpu else 0,
        slots_bytes=(settings.max_loras + 1) * adapter_bytes if on_cpu else 0,
        adapter_bytes=adapter_bytes,
        max_resident=settings.max_cpu_loras,
    )
    return _fit(capacity, settings) if settings.memory_limit_bytes is not None else capacity


def describe_ranks(table: RoutingTable) -> str:
    """Return for people how many versions have which rank: slots are padded to `max_lora_rank`, however low all of them are."""
    ranks = Counter(version.adapter.rank for version in table.versions.values())
    return ", ".join(f"{ranks[rank]} of rank {rank}" for rank in sorted(ranks)) or "none"


def _fit(capacity: Capacity, settings: ServeSettings) -> Capacity:
    is_set = "max_cpu_loras" in settings.model_fields_set
    num_wanted = settings.max_cpu_loras if is_set else settings.max_loras
    limit_bytes = settings.memory_limit_bytes or 0
    num_that_fit = (limit_bytes - capacity.fixed_bytes) // capacity.adapter_bytes
    if num_that_fit < num_wanted:
        needed_bytes = capacity.fixed_bytes + num_wanted * capacity.adapter_bytes
        cause = f"max_cpu_loras {num_wanted}" if is_set else f"max_loras {num_wanted}, which stay loaded"
        parts = (
            f"processes {capacity.processes_bytes:,}, base {capacity.base_bytes:,}, keys and values {capacity.kv_cache_bytes:,}, "
            f"slots {capacity.slots_bytes:,}, each adapter of rank {settings.max_lora_rank} {capacity.adapter_bytes:,}"
        )
        raise InvalidRequest.of_field(
            "memory_limit_bytes",
            f"is {limit_bytes:,}; with {cause} this server takes {needed_bytes:,} ({parts}): give as much, or lower "
            "kv_cache_bytes, max_loras, max_cpu_loras or max_lora_rank",
            limit_bytes=limit_bytes,
            needed_bytes=needed_bytes,
        )
    num_resident = settings.max_cpu_loras if is_set else min(num_that_fit, _MAX_RESIDENT)
    return replace(capacity, max_resident=num_resident)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
