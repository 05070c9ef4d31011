"""Chooses what computes adapters in a worker: the fastest way that passes the self-test, vLLM's own where none does."""

from collections.abc import Callable, Iterator
from typing import Any

from vllm.config.lora import LoRAConfig
from vllm.logger import init_logger
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from serve_svc.engine.cpu_lora.compiler import build_kernel
from serve_svc.engine.cpu_lora.kernel import KernelProduct
from serve_svc.engine.cpu_lora.product import Product
from serve_svc.engine.cpu_lora.self_test import check_product
from serve_svc.engine.cpu_lora.torch_product import TorchProduct
from serve_svc.engine.cpu_lora.wrapper import GroupedWrapper
from serve_svc.engine.worker_extension import OWN_PATH


class OwnWrapper(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM has no types here
    """vLLM's own path."""

    product_name = OWN_PATH


def choose_wrapper(*arguments: Any, lora_config: LoRAConfig, **options: Any) -> PunicaWrapperCPU:  # noqa: ANN401 - vLLM's call
    """Return the wrapper that vLLM is to use in this process; it has a `product_name` and says `why_slower`, if it is."""
    failures: list[str] = []
    for name, build in list_products():
        try:
            product = build()
            check_product(product, lora_config.max_lora_rank)
        except Exception as error:  # noqa: BLE001 - whatever a changed vLLM, compiler or processor does, there is another way
            failures.append(f"{name}: {error or type(error).__name__}")
            continue
        wrapper = GroupedWrapper(product, *arguments, lora_config=lora_config, **options)
        break
    else:
        wrapper = OwnWrapper(*arguments, lora_config=lora_config, **options)
    wrapper.why_slower = "; ".join(failures)
    if failures:
        init_logger(__name__).warning("Adapters are computed by %s: %s", wrapper.product_name, wrapper.why_slower)
    return wrapper


def list_products() -> Iterator[tuple[str, Callable[[], Product]]]:
    """Yield the fastest first."""
    yield KernelProduct.name, lambda: KernelProduct(build_kernel())
    yield TorchProduct.name, TorchProduct
