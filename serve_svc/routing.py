"""Decides which version of a bot answers: the registry's last known state, and the rules of reading it.

Knows names and numbers only. Where the state comes from is `registry/feed.py`, what survives a restart `registry/snapshot.py`, and
whether an adapter can be loaded `adapters/cache.py`.
"""

import enum
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TypeVar

from adaptory.core.auth import Caller, not_found
from adaptory.core.errors import FailedPrecondition
from adaptory.core.names import BotName, TenantName, VersionName
from adaptory.core.receipt import Receipt
from serve_svc.conversations import falls_to
from serve_svc.usage.quota import Quota
from serve_svc.version import AdapterVersion

_Item = TypeVar("_Item")


class Lane(enum.StrEnum):
    """How a request came to the version that answers: by the bot's routes, or since it named the version.

    What a shadow answers nobody hears.
    """

    PRODUCTION = "production"
    CANARY = "canary"
    SHADOW = "shadow"
    NAMED = "named"


class BotKind(enum.StrEnum):
    """What a bot does; the values end the names of the proto's enum."""

    UNSPECIFIED = "UNSPECIFIED"
    FAQ = "FAQ"
    SUPPORT = "SUPPORT"
    CODE_COMPLETION = "CODE_COMPLETION"


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """How a bot generates unless a request says otherwise."""

    max_output_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True, slots=True)
class RoutedTenant:
    """A tenant, the SHA-256 digests of its good keys, what it may use at once, over time and in one request, and its share."""

    name: TenantName
    key_digests: frozenset[str]
    max_requests_in_flight: int
    weight: int = 1
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True, slots=True)
class RoutedBot:
    """A bot and its routes: `previous` answered before `production` did, `canary` answers some percent of the conversations.

    The `shadow` is asked in some percent of them, once production has answered.
    Where there is an `answer_schema`, every answer conforms to it.
    """

    name: BotName
    kind: BotKind
    base_model: str
    system_prompt: str
    defaults: GenerationDefaults
    production: VersionName | None
    previous: VersionName | None
    canary: VersionName | None = None
    canary_percent: int = 0
    shadow: VersionName | None = None
    shadow_percent: int = 0
    answer_schema: str = ""

    def limit_output(self, most: int) -> "RoutedBot":
        """Return the bot, by default no longer than `most`; 0 is no limit."""
        if not most or self.defaults.max_output_tokens <= most:
            return self
        return replace(self, defaults=replace(self.defaults, max_output_tokens=most))


@dataclass(frozen=True, slots=True)
class RoutedVersion:
    """A version that may answer, and what it was trained with."""

    name: VersionName
    adapter: AdapterVersion
    system_prompt: str
    template_digest: str
    receipt: Receipt = ()


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Everything the registry says of serving at one generation, by resource name. Never changed: `apply` makes another."""

    generation: int
    tenants: Mapping[str, RoutedTenant]
    bots: Mapping[str, RoutedBot]
    versions: Mapping[str, RoutedVersion]

    @property
    def is_known(self) -> bool:
        """Tell whether the registry was ever heard, on this run or an earlier one."""
        return self.generation >= 0

    def apply(self, delta: "Delta") -> "RoutingTable":
        """Return the table after `delta`; itself when the delta is not newer."""
        if delta.generation <= self.generation:
            return self
        return RoutingTable(
            generation=delta.generation,
            tenants=_merge(self.tenants, {str(tenant.name): tenant for tenant in delta.tenants}, delta.removed),
            bots=_merge(self.bots, {str(bot.name): bot for bot in delta.bots}, delta.removed),
            versions=_merge(self.versions, {str(version.name): version for version in delta.versions}, delta.removed),
        )

    def bots_of(self, tenant: str) -> list[RoutedBot]:
        """Return the tenant's bots by name."""
        return sorted((bot for bot in self.bots.values() if bot.name.tenant == tenant), key=lambda bot: bot.name.bot)


@dataclass(frozen=True, slots=True)
class Delta:
    """One change of the registry's state: items that are new or changed, and names of those that are gone."""

    generation: int
    tenants: tuple[RoutedTenant, ...] = ()
    bots: tuple[RoutedBot, ...] = ()
    versions: tuple[RoutedVersion, ...] = ()
    removed: frozenset[str] = frozenset()


NOTHING_KNOWN = RoutingTable(generation=-1, tenants={}, bots={}, versions={})


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """The base in the engine: its name in the catalogue, and the digests of its parity copy, its chat template and its FIM form.

    The receipts say how this server renders conversations and completions.
    """

    name: str
    digest: str
    template_digest: str
    form_digest: str = ""
    chat_receipt: Receipt = ()
    code_receipt: Receipt = ()

    def receipt(self, kind: BotKind) -> Receipt:
        """Return how this server renders for bots of a kind."""
        return self.code_receipt if kind is BotKind.CODE_COMPLETION else self.chat_receipt

    def rendering_digest(self, kind: BotKind) -> str:
        """Return the digest of what renders for bots of a kind."""
        return self.form_digest if kind is BotKind.CODE_COMPLETION else self.template_digest


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers: `version` of `bot`, or the bare base where it is None; `former` stands in when the version cannot be loaded.

    For a canary it is production that stands in. The `shadow` of production is to be asked the same.
    """

    tenant: RoutedTenant
    bot: RoutedBot
    version: RoutedVersion | None
    lane: Lane = Lane.NAMED
    former: "Route | None" = None
    shadow: "Route | None" = None

    @property
    def name(self) -> VersionName:
        """Name of the version that answers; number 0 is the bare base."""
        return self.version.name if self.version else VersionName(self.bot.name.tenant, self.bot.name.bot, 0)

    @property
    def adapter(self) -> AdapterVersion | None:
        """The adapter to load, or None for the bare base."""
        return self.version.adapter if self.version else None

    @property
    def system_prompt(self) -> str:
        """The system turn; empty means none."""
        return self.version.system_prompt if self.version else self.bot.system_prompt


class Router:
    """Routes requests by the table it holds. Replacing `table` is all a promotion does: requests on their way keep their route."""

    def __init__(self, base: BaseIdentity, ended_canaries: Container[VersionName] = ()) -> None:
        """Know nothing yet, refuse whatever was not made for `base`, and send nobody to canaries that have ended."""
        self._base = base
        self._ended_canaries = ended_canaries
        self.table = NOTHING_KNOWN

    def route(self, name: BotName | VersionName, caller: Caller, conversation_key: str = "") -> Route:
        """Return who answers for `name`; of a bot with a canary, the key says whether that does.

        Raises:
            NotFound: There is no such bot or version, or it is not the caller's.
            FailedPrecondition: NO_VERSION_PROMOTED; BASE_MISMATCH when bot or version belong to another base or template;
                RECEIPT_MISMATCH when the version's rows were rendered otherwise.
        """
        caller.require_tenant(name.tenant, name=str(name))
        tenant = self.table.tenants.get(str(TenantName(name.tenant)))
        bot = self.table.bots.get(str(BotName(name.tenant, name.bot)))
        if tenant is None or bot is None:
            raise not_found(str(name))
        bot = bot.limit_output(tenant.quota.max_output_tokens)
        if bot.base_model != self._base.name:
            raise _base_mismatch(str(bot.name), "base model", bot.base_model, self._base.name)
        if isinstance(name, VersionName):
            return Route(tenant, bot, self._find_version(name, bot.kind) if name.number else None)
        if bot.production is None:
            raise FailedPrecondition(
                f"No version of {bot.name} was promoted: promote one, or ask {bot.name}/versions/0 for the base's own answer.",
                reason="NO_VERSION_PROMOTED",
                metadata={"bot": bot.name},
            )
        production = self._find_version(bot.production, bot.kind)
        route = Route(tenant, bot, production, Lane.PRODUCTION, self._find_former(tenant, bot))
        canary = self._find_beside(bot, bot.canary, bot.canary_percent, conversation_key)
        if canary and bot.canary not in self._ended_canaries:
            return replace(route, version=canary, lane=Lane.CANARY, former=route)
        shadow = self._find_beside(bot, bot.shadow, bot.shadow_percent, conversation_key)
        return replace(route, shadow=Route(tenant, bot, shadow, Lane.SHADOW)) if shadow else route

    def is_servable(self, version: RoutedVersion, kind: BotKind) -> bool:
        """Tell whether the version, of a bot of this kind, was made for the base of this server and what renders for it."""
        served = (self._base.digest, self._base.rendering_digest(kind))
        return (version.adapter.base_digest, version.template_digest) == served and self._renders_alike(version, kind)

    def _find_version(self, name: VersionName, kind: BotKind) -> RoutedVersion:
        version = self.table.versions.get(str(name))
        if version is None:
            raise not_found(str(name))
        if version.adapter.base_digest != self._base.digest:
            raise _base_mismatch(str(name), "base digest", version.adapter.base_digest, self._base.digest)
        if version.template_digest != (served := self._base.rendering_digest(kind)):
            raise _base_mismatch(str(name), "template digest", version.template_digest, served)
        if not self._renders_alike(version, kind):
            raise _renders_otherwise(str(name), version.receipt, self._base.receipt(kind))
        return version

    def _renders_alike(self, version: RoutedVersion, kind: BotKind) -> bool:
        # Versions of earlier releases have no receipt.
        return not version.receipt or version.receipt == self._base.receipt(kind)

    def _find_beside(self, bot: RoutedBot, name: VersionName | None, percent: int, key: str) -> RoutedVersion | None:
        """Return the version beside production where the conversation of this key falls to it, and this server can serve it."""
        if name is None or not falls_to(name, percent, key):
            return None
        version = self.table.versions.get(str(name))
        return version if version and self.is_servable(version, bot.kind) else None

    def _find_former(self, tenant: RoutedTenant, bot: RoutedBot) -> Route | None:
        former = self.table.versions.get(str(bot.previous))
        return Route(tenant, bot, former, Lane.PRODUCTION) if former and self.is_servable(former, bot.kind) else None


def _merge(items: Mapping[str, _Item], changed: Mapping[str, _Item], removed: Collection[str]) -> Mapping[str, _Item]:
    if not changed and not any(name in items for name in removed):
        return items
    kept = {name: item for name, item in items.items() if name not in removed}
    return {**kept, **changed}


def _renders_otherwise(name: str, trained: Receipt, served: Receipt) -> FailedPrecondition:
    rows = [place for place, pair in enumerate(zip_longest(trained, served)) if pair[0] != pair[1]]
    return FailedPrecondition(
        f"{name} was trained on other tokens than this server makes of the same text ({len(rows)} of {len(trained)} rows of the"
        " receipt differ): serve it with the release it was trained with, or train it again.",
        reason="RECEIPT_MISMATCH",
        metadata={"name": name, "rows": ",".join(map(str, rows))},
    )


def _base_mismatch(name: str, what: str, wanted: str, served: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{name} needs {what} {wanted}, this server has {served}: ask a server of that base, or train the bot on this one.",
        reason="BASE_MISMATCH",
        metadata={"name": name, "wanted": wanted, "served": served},
    )
