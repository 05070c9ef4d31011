"""Resource names: `tenants/{tenant}/bots/{bot}/versions/{n}` and kin, parsed once at the edge into values that cannot be wrong."""

import re
from dataclasses import astuple, dataclass
from typing import ClassVar, Self

from adaptory.core.errors import InvalidRequest

MAX_ID_LENGTH = 63
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_PLACE = re.compile(r"\{\w+\}")


def check_id(value: str, *, field: str) -> str:
    """Return `value` when it may be an id in a resource name. Raises InvalidRequest that names `field` and the rule."""
    if _ID.fullmatch(value):
        return value
    rule = f"must be 1 to {MAX_ID_LENGTH} characters of a-z, 0-9 and inner hyphens, beginning with a letter"
    raise InvalidRequest.of_field(
        field, f"is {len(value)} characters long or holds others; it {rule}", length=len(value)
    )


@dataclass(frozen=True, slots=True)
class ResourceName:
    """What all names share: a pattern whose places are the fields, in order; `{n}` is a number, every other place an id."""

    PATTERN: ClassVar[str]

    def __str__(self) -> str:
        """Return the resource name."""
        return _PLACE.sub("{}", self.PATTERN).format(*astuple(self))

    @classmethod
    def parse(cls, name: str, *, field: str) -> Self:
        """Parse the resource name. Raises InvalidRequest that names `field` and the pattern."""
        parts, places = name.split("/"), cls.PATTERN.split("/")
        if len(parts) != len(places) or not all(map(_matches, parts, places)):
            raise InvalidRequest.of_field(field, f"is not of the form {cls.PATTERN}", length=len(name))
        values = [int(part) if place == "{n}" else part for part, place in zip(parts, places, strict=True)]
        return cls(*values[1::2])


@dataclass(frozen=True, slots=True)
class TenantName(ResourceName):
    """A tenant."""

    PATTERN = "tenants/{tenant}"
    tenant: str


@dataclass(frozen=True, slots=True)
class ApiKeyName(ResourceName):
    """A key of a tenant."""

    PATTERN = "tenants/{tenant}/apiKeys/{id}"
    tenant: str
    key: str


@dataclass(frozen=True, slots=True)
class DatasetName(ResourceName):
    """A dataset of a tenant."""

    PATTERN = "tenants/{tenant}/datasets/{id}"
    tenant: str
    dataset: str


@dataclass(frozen=True, slots=True)
class TrainingJobName(ResourceName):
    """A training job of a tenant."""

    PATTERN = "tenants/{tenant}/trainingJobs/{id}"
    tenant: str
    job: str


@dataclass(frozen=True, slots=True)
class BotName(ResourceName):
    """A bot of a tenant."""

    PATTERN = "tenants/{tenant}/bots/{bot}"
    tenant: str
    bot: str


@dataclass(frozen=True, slots=True)
class VersionName(ResourceName):
    """A version of a bot; number 0 is the base model without an adapter."""

    PATTERN = "tenants/{tenant}/bots/{bot}/versions/{n}"
    tenant: str
    bot: str
    number: int

    @property
    def bot_name(self) -> BotName:
        """Return the name of the version's bot."""
        return BotName(self.tenant, self.bot)


def _matches(part: str, place: str) -> bool:
    if place == "{n}":
        return bool(_NUMBER.fullmatch(part))
    if place.startswith("{"):
        return bool(_ID.fullmatch(part))
    return part == place
