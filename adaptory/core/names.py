"""Resource names: `tenants/{tenant}/bots/{bot}/versions/{n}` and kin, parsed once at the edge into values that cannot be wrong."""

import re
from dataclasses import dataclass
from typing import Self

from adaptory.core.errors import InvalidRequest

MAX_ID_LENGTH = 63
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def check_id(value: str, *, field: str) -> str:
    """Return `value` when it may be an id in a resource name. Raises InvalidRequest that names `field` and the rule."""
    if _ID.fullmatch(value):
        return value
    rule = "must be 1 to 63 characters of a-z, 0-9 and inner hyphens, beginning with a letter"
    raise InvalidRequest.of_field(
        field, f"is {len(value)} characters long or holds others; it {rule}", length=len(value)
    )


@dataclass(frozen=True, slots=True)
class TenantName:
    """`tenants/{tenant}`."""

    tenant: str

    def __str__(self) -> str:
        """Return the resource name."""
        return f"tenants/{self.tenant}"

    @classmethod
    def parse(cls, name: str, *, field: str) -> Self:
        """Parse the resource name. Raises InvalidRequest that names `field` and the pattern."""
        (tenant,) = _split(name, "tenants/{tenant}", field=field)
        return cls(tenant)


@dataclass(frozen=True, slots=True)
class ApiKeyName:
    """`tenants/{tenant}/apiKeys/{id}`."""

    tenant: str
    key: str

    def __str__(self) -> str:
        """Return the resource name."""
        return f"tenants/{self.tenant}/apiKeys/{self.key}"

    @classmethod
    def parse(cls, name: str, *, field: str) -> Self:
        """Parse the resource name. Raises InvalidRequest that names `field` and the pattern."""
        tenant, key = _split(name, "tenants/{tenant}/apiKeys/{id}", field=field)
        return cls(tenant, key)


@dataclass(frozen=True, slots=True)
class DatasetName:
    """`tenants/{tenant}/datasets/{id}`."""

    tenant: str
    dataset: str

    def __str__(self) -> str:
        """Return the resource name."""
        return f"tenants/{self.tenant}/datasets/{self.dataset}"

    @classmethod
    def parse(cls, name: str, *, field: str) -> Self:
        """Parse the resource name. Raises InvalidRequest that names `field` and the pattern."""
        tenant, dataset = _split(name, "tenants/{tenant}/datasets/{id}", field=field)
        return cls(tenant, dataset)


@dataclass(frozen=True, slots=True)
class TrainingJobName:
    """`tenants/{tenant}/trainingJobs/{id}`."""

    tenant: str
    job: str

    def __str__(self) -> str:
        """Return the resource name."""
        return f"tenants/{self.tenant}/trainingJobs/{self.job}"

    @classmethod
    def parse(cls, name: str, *, field: str) -> Self:
        """Parse the resource name. Raises InvalidRequest that names `field` and the pattern."""
        tenant, job = _split(name, "tenants/{tenant}/trainingJobs/{id}", field=field)
        return cls(tenant, job)


@dataclass(frozen=True, slots=True)
class BotName:
    """`tenants/{tenant}/bots/{bot}`."""

    tenant: str
    bot: str

    def __str__(self) -> str:
        """Return the resource name."""
        return f"tenants/{self.tenant}/bots/{self.bot}"

    @classmethod
    def parse(cls, name: str, *, field: str) -> Self:
        """Parse the resource name. Raises InvalidRequest that names `field` and the pattern."""
        tenant, bot = _split(name, "tenants/{tenant}/bots/{bot}", field=field)
        return cls(tenant, bot)


@dataclass(frozen=True, slots=True)
class VersionName:
    """`tenants/{tenant}/bots/{bot}/versions/{n}`; version 0 is the base model without an adapter."""

    tenant: str
    bot: str
    number: int

    def __str__(self) -> str:
        """Return the resource name."""
        return f"tenants/{self.tenant}/bots/{self.bot}/versions/{self.number}"

    @property
    def bot_name(self) -> BotName:
        """Return the name of the version's bot."""
        return BotName(self.tenant, self.bot)

    @classmethod
    def parse(cls, name: str, *, field: str) -> Self:
        """Parse the resource name. Raises InvalidRequest that names `field` and the pattern."""
        tenant, bot, number = _split(name, "tenants/{tenant}/bots/{bot}/versions/{n}", field=field)
        return cls(tenant, bot, int(number))


def _split(name: str, pattern: str, *, field: str) -> list[str]:
    parts, places = name.split("/"), pattern.split("/")
    if len(parts) == len(places) and all(_matches(part, place) for part, place in zip(parts, places, strict=True)):
        return parts[1::2]
    raise InvalidRequest.of_field(field, f"is not of the form {pattern}", length=len(name))


def _matches(part: str, place: str) -> bool:
    if place == "{n}":
        return bool(_NUMBER.fullmatch(part))
    if place.startswith("{"):
        return bool(_ID.fullmatch(part))
    return part == place
