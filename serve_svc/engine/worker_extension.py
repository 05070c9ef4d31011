"""What we add to vLLM's worker process; vLLM imports it there by its name."""

import signal
from typing import Any

# The name of vLLM's own way to compute adapters on a CPU; ours are in `cpu_lora/`.
OWN_PATH = "vllm"


class DrainingWorker:
    """Mixed into vLLM's worker, which would die of the first signal under the requests it computes."""

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
