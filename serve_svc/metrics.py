"""What operators watch on a server: requests, tokens and times per tenant and bot, adapters, the engine.

Every label is bounded: tenants and bots come from the registry's table and are capped, the rest are fixed words.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from adaptory.core.errors import ServiceError
from adaptory.core.telemetry import CappedLabel
from serve_svc.adapters.life import AdapterState
from serve_svc.adapters.quarantine import Quarantine
from serve_svc.engine.engine import EngineChunk
from serve_svc.engine.supervisor import EngineState
from serve_svc.routing import Route
from serve_svc.version import AdapterVersion

log = structlog.get_logger()

_REQUEST_LABELS = ("tenant", "bot", "bot_kind", "lane")
# From a cached prompt on a GPU to a queue in front of a busy CPU.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SHARES = tuple(tenth / 10 for tenth in range(11))
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


def add_gauge(registry: CollectorRegistry, name: str, documentation: str, read: Callable[[], float]) -> None:
    """Add the gauge `adaptory_serve_NAME`, which asks `read` at every scrape."""
    Gauge(f"adaptory_serve_{name}", documentation, registry=registry).set_function(read)


def add_state_gauge(registry: CollectorRegistry, count: Callable[[AdapterState], int]) -> None:
    """Add the gauge of adapters by state, which asks `count` at every scrape."""
    gauge = Gauge(
        "adaptory_serve_adapters", "Adapter versions this server knows something of.", ("state",), registry=registry
    )
    for state in AdapterState:
        gauge.labels(state.value).set_function(partial(count, state))


class RequestMetrics:
    """Counts requests and what they cost."""

    def __init__(self, registry: CollectorRegistry, max_labels: int) -> None:
        """Name at most `max_labels` tenants, and as many bots; the others are counted as `other`."""
        self._tenants = CappedLabel(max_labels)
        self._bots = CappedLabel(max_labels)
        self._requests = Counter(
            "adaptory_serve_requests", "Requests ended, by gRPC code.", (*_REQUEST_LABELS, "code"), registry=registry
        )
        self._tokens = Counter(
            "adaptory_serve_tokens",
            "Tokens of prompts (in) and answers (out).",
            ("tenant", "direction"),
            registry=registry,
        )
        self._first_token = Histogram(
            "adaptory_serve_time_to_first_token_seconds",
            "From a request's arrival to its first token, queue and adapter load included.",
            _REQUEST_LABELS,
            buckets=SECONDS,
            registry=registry,
        )
        self._inter_token = Histogram(
            "adaptory_serve_inter_token_seconds",
            "Between one piece of an answer and the next, per token.",
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self._former = Counter(
            "adaptory_serve_former_version_answers",
            "Requests answered by the former version since the promoted one could not be loaded.",
            registry=registry,
        )
        self._shadows = Counter(
            "adaptory_serve_shadow_answers",
            "Answers of production that a shadow was to be compared with: same, different, failed, dropped.",
            ("tenant", "bot", "result"),
            registry=registry,
        )
        self._similarity = Histogram(
            "adaptory_serve_shadow_similarity",
            "How alike a shadow's answer and production's are: 1 less the share of characters to change (Levenshtein).",
            ("tenant", "bot"),
            buckets=_SHARES,
            registry=registry,
        )

    @contextmanager
    def observe(self, route: Route) -> Iterator["RequestRecord"]:
        """Count one request on its route when the block ends, under the code it ends with."""
        tenant, name = self._name(route)
        labels = (tenant, name, route.bot.kind.value, route.lane.value)
        code = grpc.StatusCode.CANCELLED  # left by cancellation: the client went away
        record = RequestRecord(self._first_token.labels(*labels), self._inter_token)
        try:
            yield record
            code = grpc.StatusCode.OK
        except ServiceError as error:
            code = error.status
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            raise
        finally:
            if record.has_ended and code is grpc.StatusCode.CANCELLED:
                code = grpc.StatusCode.OK  # its asker had enough, and told the end to the caller
            self._requests.labels(*labels, code.name).inc()
            self._tokens.labels(tenant, "in").inc(record.num_prompt_tokens)
            self._tokens.labels(tenant, "out").inc(record.num_output_tokens)

    def former_version_answers(self) -> None:
        """Count a request whose version could not be loaded, and that the version before it answers."""
        self._former.inc()

    def shadow_compared(self, shadow: Route, similarity: float) -> None:
        """Report how alike, 0 to 1, a shadow's answer and production's are."""
        tenant, name = self._name(shadow)
        self._shadows.labels(tenant, name, "same" if similarity == 1 else "different").inc()
        self._similarity.labels(tenant, name).observe(similarity)

    def shadow_failed(self, shadow: Route) -> None:
        """Report that a shadow could not answer what production did."""
        self._shadows.labels(*self._name(shadow), "failed").inc()

    def shadow_dropped(self, shadow: Route) -> None:
        """Report that a shadow was not asked, since the server had better things to do."""
        self._shadows.labels(*self._name(shadow), "dropped").inc()

    def _name(self, route: Route) -> tuple[str, str]:
        return self._tenants.name(route.bot.name.tenant), self._bots.name(str(route.bot.name))


class RequestRecord:
    """What is heard of one request while it runs."""

    def __init__(self, first_token: Histogram, inter_token: Histogram) -> None:
        """Begin before the first token."""
        self._first_token = first_token
        self._inter_token = inter_token
        self._last_s = 0.0
        self.has_ended = False
        self.former_answers = False
        self.num_prompt_tokens = 0
        self.num_output_tokens = 0
        self.time_to_first_token_s = 0.0

    def ended(self) -> None:
        """Report that the caller was told how its answer ended, whether the engine is done or not."""
        self.has_ended = True

    def heard(self, chunk: EngineChunk, elapsed_s: float) -> None:
        """Report one more piece of the answer, `elapsed_s` after the request came."""
        num_new = chunk.num_output_tokens - self.num_output_tokens
        if not num_new:
            return
        if not self.num_output_tokens:
            self.time_to_first_token_s = elapsed_s
            self._first_token.observe(elapsed_s)
        else:
            self._inter_token.observe((elapsed_s - self._last_s) / num_new)
        self._last_s = elapsed_s
        self.num_prompt_tokens = chunk.num_prompt_tokens
        self.num_output_tokens = chunk.num_output_tokens


class AdapterMetrics:
    """An AdapterObserver that counts and logs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Begin with no adapter resident."""
        self._loads = Counter(
            "adaptory_serve_adapter_loads",
            "Adapter loads, by `loaded` or the error's reason.",
            ("result",),
            registry=registry,
        )
        self._load_seconds = Histogram(
            "adaptory_serve_adapter_load_seconds",
            "From the first demand for an adapter until it is in the engine.",
            buckets=SECONDS,
            registry=registry,
        )
        self._resident = Gauge("adaptory_serve_resident_adapters", "Adapters in the engine.", registry=registry)
        self._evictions = Counter("adaptory_serve_evictions", "Adapters taken out of the engine.", registry=registry)
        self._quarantined = Counter(
            "adaptory_serve_quarantined",
            "Versions put into quarantine, by the reason of the error that did it.",
            ("reason",),
            registry=registry,
        )

    def adapter_loaded(self, version: AdapterVersion, seconds: float) -> None:
        """Count a load that ended well."""
        self._loads.labels("loaded").inc()
        self._load_seconds.observe(seconds)
        self._resident.inc()
        log.info("adapter_loaded", version=version.name, digest=version.digest, seconds=round(seconds, 3))

    def adapter_failed(self, version: AdapterVersion, error: ServiceError) -> None:
        """Count a load that did not, under the reason of its error: the reasons are a fixed set."""
        self._loads.labels(error.reason).inc()
        log.warning("adapter_not_loaded", version=version.name, reason=error.reason, why=error.message)

    def adapter_unloaded(self, version: AdapterVersion) -> None:
        """Count an adapter that left the engine."""
        self._evictions.inc()
        self._resident.dec()
        log.info("adapter_unloaded", version=version.name)

    def adapter_quarantined(self, version: AdapterVersion, quarantine: Quarantine) -> None:
        """Count a version that is refused from now on."""
        self._quarantined.labels(quarantine.cause.reason).inc()
        log.error(
            "version_quarantined",
            version=version.name,
            reason=quarantine.cause.reason,
            why=quarantine.cause.message,
            is_tried_again=quarantine.retry_at_s is not None,
        )

    def engine_emptied(self) -> None:
        """Report that the engine is gone, and every adapter in it."""
        self._resident.set(0)


class EngineMetrics:
    """Counts engines, and says whether one serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Begin before the first engine."""
        self._starts = Counter("adaptory_serve_engine_starts", "Engines that came up.", registry=registry)
        self._serving = Gauge("adaptory_serve_engine_serving", "1 while the engine answers.", registry=registry)
        self.num_starts = 0

    def engine_entered(self, state: EngineState) -> None:
        """Count the change of state."""
        is_serving = state is EngineState.SERVING
        self._serving.set(is_serving)
        if is_serving:
            self._starts.inc()
            self.num_starts += 1
