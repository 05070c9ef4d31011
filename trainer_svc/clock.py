"""The time of day, passed in wherever a record needs one."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def read_utc() -> datetime:
    """Return the moment it is, with its time zone."""
    return datetime.now(UTC)
