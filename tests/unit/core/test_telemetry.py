"""Metrics: labels stay bounded whatever clients send."""

import urllib.request

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from adaptory.core.telemetry import CappedLabel, GrpcMetrics, Telemetry


@given(st.lists(st.text(), max_size=200))
def test_a_capped_label_never_has_more_values_than_its_capacity(values: list[str]) -> None:
    """Tenants beyond the cap are counted together."""
    label = CappedLabel(5)

    assert len({label.name(value) for value in values} - {"other"}) <= 5


def test_a_known_value_keeps_its_name_when_the_label_is_full() -> None:
    """A series never jumps to `other` once it exists."""
    label = CappedLabel(1)
    label.name("acme")

    assert (label.name("globex"), label.name("acme")) == ("other", "acme")


def test_methods_nobody_serves_are_counted_together() -> None:
    """Random method names do not grow the number of series."""
    registry = CollectorRegistry()
    metrics = GrpcMetrics(registry, ["/p.S/M"])
    for number in range(50):
        with metrics.observe(f"/x.Y/{number}", streams=False):
            pass

    labels = {"grpc_type": "unary", "grpc_service": "other", "grpc_method": "other"}
    assert registry.get_sample_value("grpc_server_started_total", labels) == 50


def test_the_port_serves_the_registry_and_closes() -> None:
    """A scrape shows what is running."""
    with Telemetry(service="trainer", version="1") as telemetry:
        address = telemetry.serve("127.0.0.1:0")
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            page = answer.read().decode()

    assert 'adaptory_build_info{service="trainer",version="1"} 1.0' in page
