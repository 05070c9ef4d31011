"""What is counted of requests, as both services and the contract have it: which version, which day, how many."""

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from datetime import date

from adaptory.core.errors import InvalidRequest
from adaptory.core.names import VersionName
from adaptory.core.violations import Violations
from adaptory.registry.v1 import usage_service_pb2

_DAY_CHARS = len("2026-01-31")


@dataclass(frozen=True, slots=True)
class UsageKey:
    """A version and a UTC day, `YYYY-MM-DD`."""

    version: VersionName
    day: str


@dataclass(frozen=True, slots=True)
class UsageCounts:
    """Requests that ended, those of them that did not end well, and tokens."""

    num_requests: int = 0
    num_cancelled: int = 0
    num_failed: int = 0
    num_refused: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of prompts and answers together."""
        return self.num_prompt_tokens + self.num_output_tokens

    def __add__(self, other: "UsageCounts") -> "UsageCounts":
        """Return both together."""
        return UsageCounts(*(mine + yours for mine, yours in zip(astuple(self), astuple(other), strict=True)))


def add_usage(into: dict[UsageKey, UsageCounts], usage: Mapping[UsageKey, UsageCounts]) -> None:
    """Add records to those that are there."""
    for key, counts in usage.items():
        into[key] = into.get(key, UsageCounts()) + counts


COUNTS = tuple(field.name for field in fields(UsageCounts))


def check_day(text: str, *, field: str) -> str:
    """Return `text` when it is a day, `YYYY-MM-DD`. Raises InvalidRequest that names `field`."""
    try:
        if len(text) == _DAY_CHARS and date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise InvalidRequest.of_field(field, "is no day of the form YYYY-MM-DD", length=len(text))


def parse_usage(usage: usage_service_pb2.Usage, *, field: str) -> tuple[UsageKey, UsageCounts]:
    """Return what a message says. Raises InvalidRequest that names fields below `field`."""
    violations = Violations()
    for name in COUNTS:
        count = getattr(usage, name)
        violations.check(field=f"{field}.{name}", is_good=count >= 0, sentence=f"is {count}; it must be 0 or more")
    violations.raise_if_any()
    version = VersionName.parse(usage.version, field=f"{field}.version")
    key = UsageKey(version, check_day(usage.day, field=f"{field}.day"))
    return key, UsageCounts(*(getattr(usage, name) for name in COUNTS))


def dump_usage(key: UsageKey, counts: UsageCounts) -> usage_service_pb2.Usage:
    """Return the message that `parse_usage` reads."""
    return usage_service_pb2.Usage(version=str(key.version), day=key.day, **asdict(counts))
