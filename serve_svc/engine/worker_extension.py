"""What we add to vLLM's worker process; vLLM imports it there by its name."""

import signal
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

from vllm.lora.request import LoRARequest

# The name of vLLM's own way to compute adapters on a CPU; ours are in `cpu_lora/`.
OWN_PATH = "vllm"


class ServingWorker:
    """Mixed into vLLM's worker, which would die of the first signal, and stand still while it reads an adapter."""

    model_runner: Any  # vLLM's own

    def leave_signals_to_the_engine(self) -> None:
        """Ignore what Ctrl-C and service managers send to whole groups; the engine process drains, then ends its workers."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def tell_adapter_path(self) -> tuple[str, str]:
        """Return what computes adapters here, and why it is not what is fastest (empty, if it is)."""
        try:
            wrappers = self.model_runner.lora_manager._adapter_manager.punica_wrapper_mapping  # noqa: SLF001 - vLLM's
        except AttributeError as error:
            return OWN_PATH, f"vLLM is not as it was tested: {error}"
        wrapper = next(iter(wrappers.values()))
        unplugged = (
            "vLLM has not loaded the plugin adaptory_cpu_lora: install Adaptory anew, or vLLM is of an untested version"
        )
        return getattr(wrapper, "product_name", OWN_PATH), getattr(wrapper, "why_slower", unplugged)

    def begin_loading(self, engine_id: int, name: str, path: str) -> None:
        """Read an adapter's files beside the steps, unless its id is known; `finish_loading` has what comes of it."""
        if engine_id not in self._readings and engine_id not in self.model_runner.list_loras():
            self._readings[engine_id] = self._reader.submit(self._read, LoRARequest(name, engine_id, path))

    def finish_loading(self, engine_id: int, name: str, path: str) -> bool | None:
        """Do with what was read as vLLM's `add_lora` does, which finds it read already; None while it is being read."""
        reading = self._readings.get(engine_id)
        if reading is not None and not reading.done():
            return None
        if reading is not None:
            del self._readings[engine_id]
            self.model_runner.lora_manager._adapter_manager.add_adapter(reading.result())  # noqa: SLF001 - vLLM's
        is_added: bool = self.model_runner.add_lora(LoRARequest(name, engine_id, path))
        return is_added

    @cached_property
    def _readings(self) -> "dict[int, Future[Any]]":
        return {}

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="adapter-reader")

    def _read(self, request: LoRARequest) -> Any:  # noqa: ANN401 - vLLM's
        manager = self.model_runner.lora_manager
        adapter = manager._load_adapter(request)  # noqa: SLF001 - vLLM's
        # Half of the work; whoever adds the adapter does it, too, and finds nothing left to do.
        manager._adapter_manager._create_merged_loras_inplace(adapter)  # noqa: SLF001 - vLLM's
        return adapter
