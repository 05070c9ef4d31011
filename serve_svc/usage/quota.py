"""How much a tenant may use over time and in one request, and the refusals of whoever has used it.

Tokens are charged as they come and nothing is reserved: answers are mostly far shorter than they may be, so reserving would refuse
tenants that are well below their limit. The price is that requests under way may use more than was left; that is a debt, which is
paid off before the next request. So no answer is cut, and over a longer time the limit holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adaptory.core.errors import Busy, FieldViolation, InvalidRequest
from serve_svc.usage.day_tokens import DayTokens
from serve_svc.usage.token_bucket import TokenBucket

# What has to be left of a minute's tokens for another request.
_LEAST_TOKENS = 1.0


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant may use; 0 is no limit."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_day: int = 0
    max_prompt_tokens: int = 0
    max_output_tokens: int = 0

    def require_fit(self, num_prompt_tokens: int, max_output_tokens: int) -> None:
        """Raise InvalidRequest (PROMPT_TOO_LONG, OUTPUT_TOO_LONG) for a request that is larger than one may be."""
        if self.max_prompt_tokens and num_prompt_tokens > self.max_prompt_tokens:
            description = (
                f"take {num_prompt_tokens} tokens as a prompt; this tenant's limit is {self.max_prompt_tokens}: shorten them, or ask "
                "the operator for a higher limit"
            )
            metadata = {"num_prompt_tokens": num_prompt_tokens, "max_prompt_tokens": self.max_prompt_tokens}
            raise _invalid("PROMPT_TOO_LONG", "messages", description, metadata)
        if self.max_output_tokens and max_output_tokens > self.max_output_tokens:
            description = (
                f"is {max_output_tokens}; this tenant's limit is {self.max_output_tokens}: ask for less, or the operator for a higher"
                " limit"
            )
            metadata = {"wanted": max_output_tokens, "max_output_tokens": self.max_output_tokens}
            raise _invalid("OUTPUT_TOO_LONG", "options.max_output_tokens", description, metadata)


class Quotas:
    """Counts every tenant's use on this server; of a day, all servers' as the registry last told."""

    def __init__(self, day_tokens: DayTokens, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        """`clock` is monotonic and in seconds, `now` the time of day in UTC. All begin with everything unused but `day_tokens`."""
        self._day_tokens = day_tokens
        self._clock = clock
        self._now = now
        self._requests: dict[str, TokenBucket] = {}
        self._tokens: dict[str, TokenBucket] = {}

    def admit(self, tenant: str, quota: Quota) -> None:
        """Count a request that begins, or raise Busy (REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, TOKENS_PER_DAY) and count nothing."""
        now_s = self._clock()
        requests = _find_bucket(self._requests, tenant, quota.requests_per_minute, now_s)
        tokens = _find_bucket(self._tokens, tenant, quota.tokens_per_minute, now_s)
        self._require_day(tenant, quota.tokens_per_day)
        if tokens and (wait_s := tokens.wait_s(_LEAST_TOKENS, now_s)):
            raise _too_many_tokens(quota.tokens_per_minute, -tokens.level(now_s), wait_s)
        if requests and (wait_s := requests.wait_s(1, now_s)):
            raise _too_many_requests(quota.requests_per_minute, wait_s)
        if requests:
            requests.take(1, now_s)

    def charge(self, tenant: str, day: str, num_tokens: int) -> None:
        """Charge the tenant for tokens of a request that came on `day`; a negative number is given back."""
        self._day_tokens.add(tenant, day, num_tokens)
        if bucket := self._tokens.get(tenant):
            bucket.take(num_tokens, self._clock())

    def _require_day(self, tenant: str, tokens_per_day: int) -> None:
        now = self._now()
        spent = self._day_tokens.spent(tenant, now.date().isoformat())
        if not tokens_per_day or spent < tokens_per_day:
            return
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        wait_s = (midnight - now).total_seconds()
        raise Busy(
            f"This tenant has used {spent} tokens today, its limit is {tokens_per_day} for a UTC day, which ends in {wait_s:.0f} s: "
            "wait for the next, or ask the operator for a higher limit.",
            reason="TOKENS_PER_DAY",
            metadata={"num_tokens": spent, "tokens_per_day": tokens_per_day, "seconds_left": f"{wait_s:.0f}"},
            retry_after_s=wait_s,
        )


def _find_bucket(buckets: dict[str, TokenBucket], tenant: str, per_minute: int, now_s: float) -> TokenBucket | None:
    """Return the tenant's bucket at its rate of now, or None where it has no limit."""
    if not per_minute:
        buckets.pop(tenant, None)
        return None
    bucket = buckets.setdefault(tenant, TokenBucket(per_minute, now_s))
    bucket.resize(per_minute, now_s)
    return bucket


def _too_many_requests(limit: int, wait_s: float) -> Busy:
    return Busy(
        f"This tenant's limit is {limit} requests a minute, and they are used up; retry in {wait_s:.1f} s, or ask the operator for a "
        "higher limit.",
        reason="REQUESTS_PER_MINUTE",
        metadata={"requests_per_minute": limit, "seconds_left": f"{wait_s:.1f}"},
        retry_after_s=wait_s,
    )


def _too_many_tokens(limit: int, debt: float, wait_s: float) -> Busy:
    num_over = max(0, round(debt))
    return Busy(
        f"This tenant's limit is {limit} tokens a minute, prompts and answers together, and they are used up, with {num_over} more; "
        f"retry in {wait_s:.1f} s, or ask the operator for a higher limit.",
        reason="TOKENS_PER_MINUTE",
        metadata={"tokens_per_minute": limit, "num_tokens_over": num_over, "seconds_left": f"{wait_s:.1f}"},
        retry_after_s=wait_s,
    )


def _invalid(reason: str, field: str, description: str, metadata: Mapping[str, object]) -> InvalidRequest:
    violations = [FieldViolation(field, description)]
    return InvalidRequest(f"{field}: {description}", reason=reason, violations=violations, metadata=metadata)
