"""The entry point `adaptory_cpu_lora` of the group `vllm.general_plugins`: vLLM calls it in each of its processes."""

import os

from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.version import __version__

from serve_svc.engine.cpu_lora.enabling import ENABLING_VARIABLE

_TESTED_VERSIONS = ("0.32.",)
_CHOICE = "serve_svc.engine.cpu_lora.choice.choose_wrapper"


def register() -> None:
    """Let this process ask `choice.py` for its LoRA path, if it is on a CPU and its version was tested.

    It must be one of our engine's processes: another vLLM in this installation is not ours to change.
    """
    if ENABLING_VARIABLE not in os.environ or not current_platform.is_cpu():
        return
    if not __version__.startswith(_TESTED_VERSIONS):
        message = "Adapters go through vLLM's own path: ours is not tested with vLLM %s."
        init_logger(__name__).warning(message, __version__)
        return
    type(current_platform).get_punica_wrapper = classmethod(lambda _: _CHOICE)
