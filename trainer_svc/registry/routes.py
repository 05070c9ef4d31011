"""Changes which version of a bot answers: forward to a READY version, for all or some, back to the one before, or one never again."""

from dataclasses import replace

from sqlalchemy import Connection, update

from adaptory.core.errors import FailedPrecondition
from adaptory.core.names import BotName, VersionName
from trainer_svc.clock import Clock
from trainer_svc.registry import tables
from trainer_svc.registry.bots import Bot, CanaryEnd, Routes, dump_canary_end, read_bot, read_bot_as_seen
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.database import Database
from trainer_svc.registry.versions import (
    GateOverride,
    Version,
    VersionState,
    mark_retired,
    override_gate,
    read_version,
)


class RouteTable:
    """Promotes, tries as a canary or a shadow, rolls back and retires; servers hear of each change."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def promote(self, name: VersionName, *, etag: str, caller: str, override_reason: str) -> Bot:
        """Make a version answer; the one that answered becomes `previous`. Promoting what answers already changes nothing.

        With an `override_reason` a version that is REJECTED or UNJUDGED becomes READY, and keeps reason, caller and time.
        Raises NotFound, FailedPrecondition (VERSION_NOT_READY, or WEIGHTS_UNFIT for one that no server would load whatever the
        reason), and Conflict when `etag` is not empty and not the routes' own.
        """

        def promote_version(transaction: Connection) -> Bot:
            version = read_version(transaction, name)
            bot = read_bot_as_seen(transaction, name.bot_name, etag)
            if version.weights_fault:
                raise _unfit(version)
            if version.state.may_be_overridden and override_reason:
                override = GateOverride(override_reason, caller, self._clock())
                version = override_gate(transaction, version, override)
            if version.state is not VersionState.READY:
                raise _not_ready(version)
            if bot.routes.production == name:
                return bot
            return _put_in_production(transaction, bot, name)

        return await self._database.write(promote_version)

    async def roll_back(self, name: BotName, *, etag: str) -> Bot:
        """Let the version that answered before answer again; the two change places.

        Raises NotFound, FailedPrecondition (NO_PREVIOUS_VERSION), and Conflict when `etag` is not empty and not the routes' own.
        """

        def roll_back_bot(transaction: Connection) -> Bot:
            bot = read_bot_as_seen(transaction, name, etag)
            if bot.routes.previous is None:
                message = f"{name} has no version that answered before; promote one instead."
                raise FailedPrecondition(message, reason="NO_PREVIOUS_VERSION", metadata={"name": name})
            return _put_in_production(transaction, bot, bot.routes.previous)

        return await self._database.write(roll_back_bot)

    async def retire(self, name: VersionName, *, etag: str) -> Version:
        """Take a version out of use for ever; if it is what answered before, there is nothing to roll back to any more.

        Raises NotFound, FailedPrecondition (VERSION_ROUTED) for one that answers or is tried, and Conflict when `etag` is not empty
        and not the routes' own.
        """

        def retire_version(transaction: Connection) -> Version:
            version = read_version(transaction, name)
            bot = read_bot_as_seen(transaction, name.bot_name, etag)
            if bot.routes.previous == name:
                bot = _write_routes(transaction, bot, replace(bot.routes, previous=None))
            if (route := bot.routes.find_route_of(name)) is not None:
                message = f"The route `{route}` names {name}; let another version have it, or end it, first."
                raise FailedPrecondition(message, reason="VERSION_ROUTED", metadata={"name": name, "route": route})
            return mark_retired(transaction, version)

        return await self._database.write(retire_version)

    async def set_canary(self, name: VersionName, *, percent: int, etag: str) -> Bot:
        """Let a version answer so many percent of the conversations; 0 ends the canary. What is so already changes nothing.

        Raises NotFound, FailedPrecondition (VERSION_NOT_READY, NO_VERSION_PROMOTED, VERSION_IN_PRODUCTION, NOT_THE_CANARY), and
        Conflict when `etag` is not empty and not the routes' own.
        """

        def set_bots_canary(transaction: Connection) -> Bot:
            bot = read_bot_as_seen(transaction, name.bot_name, etag)
            _require_beside(read_version(transaction, name), bot.routes, percent, ("canary", bot.routes.canary))
            wanted = replace(bot.routes, canary=name if percent else None, canary_percent=percent)
            if wanted == bot.routes:
                return bot
            return _write_routes(transaction, bot, replace(wanted, canary_end=None))

        return await self._database.write(set_bots_canary)

    async def set_shadow(self, name: VersionName, *, percent: int, etag: str) -> Bot:
        """Have a version asked beside production in so many percent of the conversations; 0 ends that. What is so changes nothing.

        Raises as `set_canary`, with NOT_THE_SHADOW.
        """

        def set_bots_shadow(transaction: Connection) -> Bot:
            bot = read_bot_as_seen(transaction, name.bot_name, etag)
            _require_beside(read_version(transaction, name), bot.routes, percent, ("shadow", bot.routes.shadow))
            wanted = replace(bot.routes, shadow=name if percent else None, shadow_percent=percent)
            return bot if wanted == bot.routes else _write_routes(transaction, bot, wanted)

        return await self._database.write(set_bots_shadow)

    async def end_canary(self, name: VersionName, *, reason: str) -> None:
        """End a canary that is worse than production, and keep why; one that is none any more stays as it is. Raises NotFound."""

        def end_bots_canary(transaction: Connection) -> None:
            bot = read_bot(transaction, name.bot_name)
            if bot.routes.canary == name:
                end = CanaryEnd(str(name), reason, self._clock())
                _write_routes(transaction, bot, replace(bot.routes, canary=None, canary_percent=0, canary_end=end))

        await self._database.write(end_bots_canary)


def _require_beside(version: Version, routes: Routes, percent: int, beside: tuple[str, VersionName | None]) -> None:
    """Raise FailedPrecondition unless the version can be tried beside production, or at 0 percent end to be.

    `beside` is the route that is to change, and the version it names.
    """
    if not percent:
        _require_same(version, *beside)
        return
    if version.state is not VersionState.READY:
        raise _not_ready(version)
    if routes.production is None:
        message = f"No version of {version.name.bot_name} answers yet: promote {version.name} instead."
        raise FailedPrecondition(message, reason="NO_VERSION_PROMOTED", metadata={"name": version.name})
    if routes.production == version.name:
        message = f"{version.name} is in production and answers everybody; try another version beside it."
        raise FailedPrecondition(message, reason="VERSION_IN_PRODUCTION", metadata={"name": version.name})


def _require_same(version: Version, route: str, routed: VersionName | None) -> None:
    """Raise FailedPrecondition where another version is the canary, or the shadow, that would end."""
    if routed not in (None, version.name):
        message = f"The {route} of {version.name.bot_name} is {routed}, not {version.name}; name that one to end it."
        metadata = {"name": version.name, route: routed}
        raise FailedPrecondition(message, reason=f"NOT_THE_{route.upper()}", metadata=metadata)


def _unfit(version: Version) -> FailedPrecondition:
    message = (
        f"No server would load {version.name}, whatever the reason to override the gate: {version.weights_fault} Train it"
        " again."
    )
    return FailedPrecondition(message, reason="WEIGHTS_UNFIT", metadata={"name": version.name})


def _not_ready(version: Version) -> FailedPrecondition:
    metadata = {"name": version.name, "state": version.state}
    message = f"{version.name} is {version.state}; only a READY version may answer."
    if version.state.may_be_overridden:
        found = f"The gate says: {version.draft.rejection}" if version.draft.evaluation else version.draft.rejection
        message += f" {found} To promote it all the same, give a reason to override the gate."
    return FailedPrecondition(message, reason="VERSION_NOT_READY", metadata=metadata)


def _put_in_production(transaction: Connection, bot: Bot, name: VersionName) -> Bot:
    """Let a version answer, and the one that answered be the previous one; it is no canary or shadow beside itself."""
    routes = replace(bot.routes, production=name, previous=bot.routes.production)
    if routes.canary == name:
        routes = replace(routes, canary=None, canary_percent=0)
    if routes.shadow == name:
        routes = replace(routes, shadow=None, shadow_percent=0)
    return _write_routes(transaction, bot, routes)


def _write_routes(transaction: Connection, bot: Bot, routes: Routes) -> Bot:
    routes = replace(routes, revision=bot.routes.revision + 1)
    table = tables.bots
    transaction.execute(
        update(table)
        .where(table.c.tenant == bot.name.tenant, table.c.bot == bot.name.bot)
        .values(
            production=_number_of(routes.production),
            previous=_number_of(routes.previous),
            canary=_number_of(routes.canary),
            canary_percent=routes.canary_percent,
            canary_end=dump_canary_end(routes.canary_end),
            shadow=_number_of(routes.shadow),
            shadow_percent=routes.shadow_percent,
            routes_revision=routes.revision,
        )
    )
    record_change(transaction, str(bot.name))
    return replace(bot, routes=routes)


def _number_of(version: VersionName | None) -> int:
    return version.number if version else 0
