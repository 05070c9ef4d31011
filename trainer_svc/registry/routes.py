"""Changes which version of a bot answers: forward to a READY version, or back to the one that answered before."""

from dataclasses import replace

from sqlalchemy import Connection, update

from adaptory.core.errors import Conflict, FailedPrecondition
from adaptory.core.names import BotName, VersionName
from trainer_svc.registry import tables
from trainer_svc.registry.bots import Bot, Routes, read_bot
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.database import Database
from trainer_svc.registry.versions import VersionState, read_version


class RouteTable:
    """Promotes and rolls back; servers hear of each change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def promote(self, version: VersionName, *, etag: str) -> Bot:
        """Make a version answer; the one that answered becomes `previous`. Promoting what answers already changes nothing.

        Raises NotFound, FailedPrecondition (VERSION_NOT_READY), and Conflict when `etag` is not empty and not the routes' own.
        """

        def promote_version(transaction: Connection) -> Bot:
            state = read_version(transaction, version).state
            bot = _read_bot_as_seen(transaction, version.bot_name, etag)
            if state is not VersionState.READY:
                message = f"{version} is {state}; only a READY version may answer."
                metadata = {"name": version, "state": state}
                raise FailedPrecondition(message, reason="VERSION_NOT_READY", metadata=metadata)
            if bot.routes.production == version:
                return bot
            return _write_routes(transaction, bot, production=version, previous=bot.routes.production)

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
