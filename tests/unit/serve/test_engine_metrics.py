"""What of vLLM's metrics may be scraped."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from serve_svc.engine.metrics import VllmCollector, count_corrupted_requests


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry like the one that vLLM knows; the real one may hold a real engine's metrics."""
    return CollectorRegistry()


@pytest.fixture
def corrupted(registry: CollectorRegistry) -> Counter:
    """Metrics as vLLM registers them."""
    Gauge("vllm:lora_requests_info", "LoRA", ["running"], registry=registry)
    Gauge("vllm:num_requests_running", "n", registry=registry)
    Gauge("python_gc", "not vLLM's", registry=registry)
    return Counter("vllm:corrupted_requests", "NaN", ["engine"], registry=registry)


def test_all_of_vllm_but_the_unbounded_metric_is_collected(registry: CollectorRegistry, corrupted: Counter) -> None:
    """The metric whose labels hold tenants' names is dropped, and nothing that is not vLLM's gets in."""
    names = {metric.name for metric in VllmCollector(registry).collect()}

    assert names == {"vllm:corrupted_requests", "vllm:num_requests_running"}


def test_corrupted_requests_are_counted_over_all_engines(registry: CollectorRegistry, corrupted: Counter) -> None:
    """The count is the sum over the label, without the series that tells when it began."""
    corrupted.labels("0").inc(2)
    corrupted.labels("1").inc()

    assert count_corrupted_requests(registry) == 3
