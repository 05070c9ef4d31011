"""Counts what every request used, however it ends: under the version that answers, and the UTC day on which it came."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from adaptory.core.errors import Busy, DeadlineExceeded, InvalidRequest, TooLarge
from adaptory.core.usage import UsageCounts, UsageKey, add_usage
from serve_svc.engine.engine import EngineChunk
from serve_svc.metrics import RequestRecord
from serve_svc.routing import Lane, Route
from serve_svc.usage.quota import Quotas

_REFUSALS = (Busy, InvalidRequest, TooLarge)


class UsageMeter:
    """Charges tokens to their tenant as they come, and keeps what requests used until somebody takes it."""

    def __init__(self, quotas: Quotas, now: Callable[[], datetime]) -> None:
        """`now` is the time of day in UTC."""
        self._quotas = quotas
        self._now = now
        self._counted: dict[UsageKey, UsageCounts] = {}

    @contextmanager
    def observe(self, route: Route, record: RequestRecord) -> Iterator["RequestUsage"]:
        """Count one request when the block ends, by how it ends; a shadow's is nobody's."""
        usage = RequestUsage(route, self._now().date().isoformat(), self._quotas)
        if route.lane is Lane.SHADOW:
            yield usage
            return
        ending = "num_cancelled"  # left by cancellation: the client went away
        try:
            yield usage
            ending = ""
        except _REFUSALS:
            ending = "num_refused"
            raise
        except DeadlineExceeded:
            raise
        except Exception:
            ending = "num_failed"
            raise
        finally:
            if ending == "num_cancelled" and record.has_ended:
                ending = ""  # its asker had enough, and told the end to the caller
            if ending in ("num_failed", "num_refused"):
                usage.spare_unanswered()
            add_usage(self._counted, {usage.key: usage.counts + UsageCounts(num_requests=1)})
            if ending:
                add_usage(self._counted, {usage.key: UsageCounts(**{ending: 1})})

    def take(self) -> Mapping[UsageKey, UsageCounts]:
        """Return what was counted since it was taken last."""
        counted, self._counted = self._counted, {}
        return counted


class RequestUsage:
    """Tokens of one request."""

    def __init__(self, route: Route, day: str, quotas: Quotas) -> None:
        """Begin with none; `route` has the version that is to answer."""
        self._tenant = route.tenant.name.tenant
        self._quotas = None if route.lane is Lane.SHADOW else quotas  # its tenant did not ask for it
        self._num_prompt_tokens = 0
        self._num_output_tokens = 0
        self.key = UsageKey(route.name, day)

    @property
    def counts(self) -> UsageCounts:
        """What was used so far."""
        return UsageCounts(num_prompt_tokens=self._num_prompt_tokens, num_output_tokens=self._num_output_tokens)

    def begins(self, route: Route, num_prompt_tokens: int) -> None:
        """Report that the engine gets the prompt, and which version answers."""
        self.key = UsageKey(route.name, self.key.day)
        self._num_prompt_tokens = num_prompt_tokens
        self._charge(num_prompt_tokens)

    def heard(self, chunk: EngineChunk) -> None:
        """Report one more piece of the answer."""
        num_new = chunk.num_output_tokens - self._num_output_tokens
        self._num_output_tokens = chunk.num_output_tokens
        self._charge(num_new)

    def spare_unanswered(self) -> None:
        """Take the prompt back where no token came of it, through no doing of its tenant's."""
        if not self._num_output_tokens:
            self._charge(-self._num_prompt_tokens)
            self._num_prompt_tokens = 0

    def _charge(self, num_tokens: int) -> None:
        if self._quotas is not None:
            self._quotas.charge(self._tenant, self.key.day, num_tokens)
