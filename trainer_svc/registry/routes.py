"""Changes which version of a bot answers: forward to a READY version, or back to the one that answered before."""

from dataclasses import replace

from sqlalchemy import Connection, update

from adaptory.core.errors import Conflict, FailedPrecondition
from adaptory.core.names import BotName, VersionName
from trainer_svc.clock import Clock
from trainer_svc.registry import tables
from trainer_svc.registry.bots import Bot, Routes, read_bot
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.database import Database
from trainer_svc.registry.versions import GateOverride, Version, VersionState, override_gate, read_version


class RouteTable:
    """Promotes and rolls back; servers hear of each change."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def promote(self, name: VersionName, *, etag: str, caller: str, override_reason: str) -> Bot:
        """Make a version answer; the one that answered becomes `previous`. Promoting what answers already changes nothing.

        With an `override_reason` a REJECTED version becomes READY, and keeps reason, caller and time. Raises NotFound,
        FailedPrecondition (VERSION_NOT_READY, or WEIGHTS_UNFIT for one that no server would load whatever the reason), and Conflict
        when `etag` is not empty and not the routes' own.
        """

        def promote_version(transaction: Connection) -> Bot:
            version = read_version(transaction, name)
            bot = _read_bot_as_seen(transaction, name.bot_name, etag)
            if fault := version.draft.evaluation.weights_fault:
                raise _unfit(version, fault)
            if version.state is VersionState.REJECTED and override_reason:
                override = GateOverride(override_reason, caller, self._clock())
                version = override_gate(transaction, version, override)
            if version.state is not VersionState.READY:
                raise _not_ready(version)
            if bot.routes.production == name:
                return bot
            return _write_routes(transaction, bot, production=name, previous=bot.routes.production)

        return await self._database.write(promote_version)

    async def roll_back(self, name: BotName, *, etag: str) -> Bot:
        """Let the version that answered before answer again; the two change places.

        Raises NotFound, FailedPrecondition (NO_PREVIOUS_VERSION), and Conflict when `etag` is not empty and not the routes' own.
        """

        def roll_back_bot(transaction: Connection) -> Bot:
            bot = _read_bot_as_seen(transaction, name, etag)
            if bot.routes.previous is None:
                message = f"{name} has no version that answered before; promote one instead."
                raise FailedPrecondition(message, reason="NO_PREVIOUS_VERSION", metadata={"name": name})
            return _write_routes(transaction, bot, production=bot.routes.previous, previous=bot.routes.production)

        return await self._database.write(roll_back_bot)


def _unfit(version: Version, fault: str) -> FailedPrecondition:
    message = f"No server would load {version.name}, whatever the reason to override the gate: {fault} Train it again."
    return FailedPrecondition(message, reason="WEIGHTS_UNFIT", metadata={"name": version.name})


def _not_ready(version: Version) -> FailedPrecondition:
    metadata = {"name": version.name, "state": version.state}
    message = f"{version.name} is {version.state}; only a READY version may answer."
    if version.state is VersionState.REJECTED:
        message += (
            f" The gate says: {version.draft.rejection} To promote it all the same, give a reason to override the gate."
        )
    return FailedPrecondition(message, reason="VERSION_NOT_READY", metadata=metadata)


def _read_bot_as_seen(transaction: Connection, name: BotName, etag: str) -> Bot:
    bot = read_bot(transaction, name)
    if etag and etag != bot.routes.etag:
        message = (
            f"The routes of {name} are at {bot.routes.etag}, not {etag}: somebody changed them. Read the bot again."
        )
        raise Conflict(message, metadata={"name": name, "etag": bot.routes.etag, "etag_sent": etag})
    return bot


def _write_routes(
    transaction: Connection, bot: Bot, *, production: VersionName | None, previous: VersionName | None
) -> Bot:
    routes = Routes(production, previous, bot.routes.revision + 1)
    table = tables.bots
    transaction.execute(
        update(table)
        .where(table.c.tenant == bot.name.tenant, table.c.bot == bot.name.bot)
        .values(
            production=production.number if production else 0,
            previous=previous.number if previous else 0,
            routes_revision=routes.revision,
        )
    )
    record_change(transaction, str(bot.name))
    return replace(bot, routes=routes)
