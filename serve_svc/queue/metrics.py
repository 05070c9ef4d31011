"""What operators watch on the queue in front of the engine. Urgencies and reasons are fixed words; tenants are not named."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve_svc.metrics import SECONDS
from serve_svc.queue.ask import Urgency


class QueueMetrics:
    """A QueueObserver that counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Begin with nobody waiting, in any urgency."""
        labels = ("urgency",)
        self._waiting = Gauge(
            "adaptory_serve_requests_waiting",
            "Requests that wait for a place in the engine.",
            labels,
            registry=registry,
        )
        self._seconds = Histogram(
            "adaptory_serve_queue_seconds",
            "Wait for a place in the engine, of those that got one.",
            labels,
            buckets=SECONDS,
            registry=registry,
        )
        self._refused = Counter(
            "adaptory_serve_queue_refusals",
            "Requests that got no place, or lost it, by reason.",
            (*labels, "reason"),
            registry=registry,
        )
        for urgency in Urgency:
            self._waiting.labels(urgency.value).set(0)

    def queue_changed(self, urgency: Urgency, num_waiting: int) -> None:
        """Show how many wait now."""
        self._waiting.labels(urgency.value).set(num_waiting)

    def request_started(self, urgency: Urgency, waited_s: float) -> None:
        """Count a request that got its place."""
        self._seconds.labels(urgency.value).observe(waited_s)

    def request_refused(self, urgency: Urgency, reason: str) -> None:
        """Count one that got none or lost it."""
        self._refused.labels(urgency.value, reason).inc()
