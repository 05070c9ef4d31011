"""vLLM's metrics, as far as they may leave the process.

vLLM registers its collectors in prometheus_client's global registry, and a second engine replaces the first's. So they are read there
at scrape time, by name, and nothing is kept.
"""

from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.registry import Collector

_PREFIX = "vllm:"
# One series for every combination of adapters that ever ran together, with tenants' names in its labels.
_UNBOUNDED = "vllm:lora_requests_info"
_CORRUPTED = "vllm:corrupted_requests_total"


class VllmCollector(Collector):
    """All of vLLM's metrics but the unbounded one; add it to the registry that is scraped."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Read what vLLM registers in `registry`; it knows the global one only."""
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Return the running engine's metrics; none before the first engine is built."""
        return [
            metric
            for metric in self._registry.collect()
            if metric.name.startswith(_PREFIX) and metric.name != _UNBOUNDED
        ]


def count_corrupted_requests(registry: CollectorRegistry = REGISTRY) -> int:
    """Return vLLM's count of finished requests with NaN in their logits, of the engine that registered last."""
    # Asked every second: all of vLLM's histograms would cost a busy server's event loop tens of milliseconds.
    metrics = registry.restricted_registry([_CORRUPTED]).collect()
    return int(sum(sample.value for metric in metrics for sample in metric.samples))
