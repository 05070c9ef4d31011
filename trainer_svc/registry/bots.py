"""Bots: what each does, on which base, and which of its versions answer. The routes are changed in `routes.py`."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from adaptory.core.auth import not_found
from adaptory.core.errors import AlreadyExists, Conflict
from adaptory.core.names import BotName, TenantName, VersionName
from trainer_svc.bots.answer_schema import require_schema_kind
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.refusals import RefusalLesson
from trainer_svc.clock import Clock
from trainer_svc.judging.gate import QualityGate
from trainer_svc.judging.style import StyleRules
from trainer_svc.registry import tables
from trainer_svc.registry.changes import record_change
from trainer_svc.registry.database import Database
from trainer_svc.registry.pages import Page, PageRequest
from trainer_svc.registry.tenants import read_tenant


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """How a bot generates unless a request says otherwise; a zero is the server's default."""

    max_output_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True, slots=True)
class CanaryEnd:
    """Which canary, by its name, a server ended for being worse than production, why, and when."""

    version: str
    reason: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Routes:
    """Which versions answer; None until the first promotion. `revision` counts the changes.

    The `canary`, where there is one, answers `canary_percent` of the conversations in production's stead; `canary_end` tells how the
    last one ended, where a server ended it and no other was set since. The `shadow` is asked beside production in `shadow_percent`
    of them, and its answers are sent to nobody.
    """

    production: VersionName | None
    previous: VersionName | None
    revision: int
    canary: VersionName | None = None
    canary_percent: int = 0
    canary_end: CanaryEnd | None = None
    shadow: VersionName | None = None
    shadow_percent: int = 0

    @property
    def etag(self) -> str:
        """What a caller sends back to change only what it has seen."""
        return f"r{self.revision}"

    def find_route_of(self, version: VersionName) -> str | None:
        """Return the name of the route that names a version, None when none does."""
        for route in ("production", "previous", "canary", "shadow"):
            if getattr(self, route) == version:
                return route
        return None


@dataclass(frozen=True, slots=True)
class BotDraft:
    """What a new bot is to be."""

    name: BotName
    kind: BotKind
    base_model: str
    display_name: str
    system_prompt: str
    generation: GenerationDefaults
    gate: QualityGate
    refusal: RefusalLesson = field(default_factory=RefusalLesson)
    style: StyleRules = field(default_factory=StyleRules)
    answer_schema: str = ""


@dataclass(frozen=True, slots=True)
class Bot:
    """One bot as it is now."""

    draft: BotDraft
    routes: Routes
    create_time: datetime

    @property
    def name(self) -> BotName:
        """The bot's name."""
        return self.draft.name


# Built once: each holds a compiled validator.
_STYLE, _CANARY_END = TypeAdapter(StyleRules), TypeAdapter(CanaryEnd)


class Bots:
    """Keeps bots in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, draft: BotDraft) -> Bot:
        """Keep a new bot and tell servers of it. Raises NotFound for the tenant, AlreadyExists when the id is taken."""
        bot = Bot(draft, Routes(None, None, revision=1), self._clock())

        def insert_bot(transaction: Connection) -> None:
            read_tenant(transaction, TenantName(draft.name.tenant))
            try:
                transaction.execute(insert(tables.bots).values(_to_columns(bot)))
            except IntegrityError as error:
                message = f"{draft.name} exists already; choose another id."
                raise AlreadyExists(message, metadata={"name": draft.name}) from error
            record_change(transaction, str(draft.name))

        await self._database.write(insert_bot)
        return bot

    async def get(self, name: BotName) -> Bot:
        """Return a bot. Raises NotFound."""
        return await self._database.read(lambda transaction: read_bot(transaction, name))

    async def set_answer_schema(self, name: BotName, schema: str) -> Bot:
        """Pin a schema that was checked, or none, and tell servers. Raises NotFound, BadSchema where the bot's kind takes none."""

        def set_schema(transaction: Connection) -> Bot:
            bot = read_bot(transaction, name)
            if schema:
                require_schema_kind(bot.draft.kind)
            table = tables.bots
            row = (table.c.tenant == name.tenant, table.c.bot == name.bot)
            transaction.execute(update(table).where(*row).values(answer_schema=schema))
            record_change(transaction, str(name))
            return read_bot(transaction, name)

        return await self._database.write(set_schema)

    async def list(self, tenant: TenantName, page: PageRequest) -> Page[Bot]:
        """Return a page of a tenant's bots, by id. Raises NotFound when there is no such tenant."""
        table = tables.bots
        query = (
            select(table)
            .where(table.c.tenant == tenant.tenant, table.c.bot > page.after)
            .order_by(table.c.bot)
            .limit(page.size + 1)
        )

        def read_bots(transaction: Connection) -> list[Bot]:
            read_tenant(transaction, tenant)
            return [to_bot(row) for row in transaction.execute(query)]

        return page.cut(await self._database.read(read_bots), key=lambda bot: bot.name.bot)


def read_bot(transaction: Connection, name: BotName) -> Bot:
    """Return a bot within a transaction. Raises NotFound."""
    table = tables.bots
    query = select(table).where(table.c.tenant == name.tenant, table.c.bot == name.bot)
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise not_found(str(name))
    return to_bot(row)


def read_bot_as_seen(transaction: Connection, name: BotName, etag: str) -> Bot:
    """Return a bot within a transaction. Raises NotFound, and Conflict when `etag` is not empty and not the routes' own."""
    bot = read_bot(transaction, name)
    if etag and etag != bot.routes.etag:
        message = (
            f"The routes of {name} are at {bot.routes.etag}, not {etag}: somebody changed them. Read the bot again."
        )
        raise Conflict(message, metadata={"name": name, "etag": bot.routes.etag, "etag_sent": etag})
    return bot


def to_bot(row: Row[Any]) -> Bot:
    """Turn a row of the table into what it says."""
    name = BotName(row.tenant, row.bot)
    draft = BotDraft(
        name=name,
        kind=BotKind(row.kind),
        base_model=row.base_model,
        display_name=row.display_name,
        system_prompt=row.system_prompt,
        generation=GenerationDefaults(row.max_output_tokens, row.temperature, row.top_p),
        gate=QualityGate(max_loss_ratio=row.max_loss_ratio, **row.gate),
        refusal=RefusalLesson(row.refusal_text, tuple(row.unanswerable)),
        style=_STYLE.validate_python(row.style_rules),
        answer_schema=row.answer_schema,
    )
    routes = Routes(
        production=_to_version(name, row.production),
        previous=_to_version(name, row.previous),
        revision=row.routes_revision,
        canary=_to_version(name, row.canary),
        canary_percent=row.canary_percent,
        canary_end=None if row.canary_end is None else _CANARY_END.validate_python(row.canary_end),
        shadow=_to_version(name, row.shadow),
        shadow_percent=row.shadow_percent,
    )
    return Bot(draft, routes, row.create_time)


def dump_canary_end(end: CanaryEnd | None) -> object:
    """Return it as the table keeps it."""
    return None if end is None else _CANARY_END.dump_python(end, mode="json")


def _to_version(bot: BotName, number: int) -> VersionName | None:
    return VersionName(bot.tenant, bot.bot, number) if number else None


def _to_columns(bot: Bot) -> dict[str, object]:
    draft, gate = bot.draft, asdict(bot.draft.gate)
    return {
        "tenant": draft.name.tenant,
        "bot": draft.name.bot,
        "kind": draft.kind,
        "base_model": draft.base_model,
        "display_name": draft.display_name,
        "system_prompt": draft.system_prompt,
        "max_output_tokens": draft.generation.max_output_tokens,
        "temperature": draft.generation.temperature,
        "top_p": draft.generation.top_p,
        "max_loss_ratio": gate.pop("max_loss_ratio"),
        "gate": gate,
        "refusal_text": draft.refusal.text,
        "unanswerable": list(draft.refusal.unanswerable),
        "style_rules": asdict(draft.style),
        "answer_schema": draft.answer_schema,
        "production": 0,
        "previous": 0,
        "routes_revision": bot.routes.revision,
        "create_time": bot.create_time,
    }
