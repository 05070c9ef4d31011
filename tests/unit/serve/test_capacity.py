"""What a server takes in memory, and how many adapters a limit leaves room for."""

from typing import Any

import pytest

from adaptory.core.errors import InvalidRequest
from serve_svc.adapters.capacity import Capacity, plan_capacity
from serve_svc.settings import ServeSettings
from tests.adapters import tiny_shape, write_adapter
from tests.fakes.server import Stage

BASE_BYTES = 1_000_000
GIB = 2**30


def plan(*, on_cpu: bool = True, **values: Any) -> Capacity:
    """Plan for the tiny base."""
    return plan_capacity(ServeSettings(max_lora_rank=8, **values), tiny_shape(), BASE_BYTES, on_cpu=on_cpu)


def test_an_adapter_takes_its_weights_in_bf16(tmp_path: Any) -> None:
    """Two bytes for each of the weights that a file of the highest rank has, whatever type they have there."""
    folder = write_adapter(tmp_path, tiny_shape(), rank=8, dtype="BF16")
    file_bytes = (folder / "adapter_model.safetensors").stat().st_size

    assert 0.7 * file_bytes < plan().adapter_bytes < file_bytes


def test_a_limit_is_filled_with_adapters_and_not_exceeded() -> None:
    """Without a number as many adapters stay loaded as fit; one more would not."""
    capacity = plan(memory_limit_bytes=4 * GIB, kv_cache_bytes=2 * GIB - 30_000_000)

    assert 16 < capacity.max_resident < 4096
    assert capacity.total_bytes <= 4 * GIB < capacity.total_bytes + capacity.adapter_bytes


def test_a_number_that_is_set_is_kept() -> None:
    """An operator's own number is not raised to what would fit."""
    assert plan(memory_limit_bytes=8 * GIB, max_cpu_loras=23).max_resident == 23
    assert plan().max_resident == ServeSettings().max_cpu_loras


@pytest.mark.parametrize("values", [{}, {"max_cpu_loras": 4000}])
def test_a_limit_that_is_too_small_is_refused_with_the_numbers(values: dict[str, int]) -> None:
    """The error says what would do, and that is what does."""
    with pytest.raises(InvalidRequest, match="keys and values 1,073,741,824") as refusal:
        plan(memory_limit_bytes=GIB, **values)

    needed_bytes = int(refusal.value.metadata["needed_bytes"])
    assert plan(memory_limit_bytes=needed_bytes, **values).total_bytes == needed_bytes
    with pytest.raises(InvalidRequest):
        plan(memory_limit_bytes=needed_bytes - 1, **values)


def test_on_a_gpu_main_memory_holds_the_loaded_adapters() -> None:
    """Base, keys and values and slots are in the card's own."""
    capacity = plan(on_cpu=False)

    assert (capacity.base_bytes, capacity.kv_cache_bytes, capacity.slots_bytes) == (0, 0, 0)
    assert capacity.adapter_bytes == plan().adapter_bytes


async def test_the_plan_is_told_to_operators(stage: Stage) -> None:
    """GetResidency has the parts and their sum."""
    memory = (await stage.residency()).memory

    parts = (memory.processes_bytes, memory.base_bytes, memory.kv_cache_bytes, memory.slots_bytes)
    assert memory.total_bytes == sum(parts) + 4 * memory.adapter_bytes
    assert not memory.HasField("limit_bytes")
