"""What of vLLM's metrics may be scraped."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY, Counter, Gauge

from serve_svc.engine.metrics import VllmCollector, count_corrupted_requests


@pytest.fixture
def corrupted() -> Iterator[Counter]:
    """Metrics as vLLM registers them, in the one registry it knows."""
    corrupted = Counter("vllm:corrupted_requests", "NaN", ["engine"])
    metrics = [
        corrupted,
        Gauge("vllm:lora_requests_info", "LoRA", ["running"]),
        Gauge("vllm:num_requests_running", "n"),
    ]
    yield corrupted
    for metric in metrics:
        REGISTRY.unregister(metric)


def test_all_of_vllm_but_the_unbounded_metric_is_collected(corrupted: Counter) -> None:
    """The metric whose labels hold tenants' names is dropped, and nothing that is not vLLM's gets in."""
    names = {metric.name for metric in VllmCollector().collect()}

    assert names == {"vllm:corrupted_requests", "vllm:num_requests_running"}


def test_corrupted_requests_are_counted_over_all_engines(corrupted: Counter) -> None:
    """The count is the sum over the label, without the series that tells when it began."""
    corrupted.labels("0").inc(2)
    corrupted.labels("1").inc()

    assert count_corrupted_requests() == 3
