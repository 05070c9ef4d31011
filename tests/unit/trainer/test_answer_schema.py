"""The schema that the operator pins to a bot's answers, through the registry's door."""

import json
from typing import Any

import grpc
import pytest

from adaptory.registry.v1 import bot_pb2, registry_service_pb2, serving_pb2
from tests.fakes.trainer import Metadata, Trainer, info_of, reason_of
from trainer_svc.bots.answer_schema import check_answer_schema
from trainer_svc.bots.schema_bounds import BadSchema

FAQ = "tenants/aurora/bots/faq"
GOOD = json.dumps(
    {
        "$defs": {"Link": {"title": "Link", "type": "string", "maxLength": 200}},
        "type": "object",
        "description": "An answer.",
        "properties": {
            "answer": {"type": "string", "maxLength": 400},
            "topic": {"type": "string", "enum": ["billing", "shipping"]},
            "links": {"type": "array", "items": {"$ref": "#/$defs/Link"}, "maxItems": 3},
            "phone": {"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}], "default": None},
            "score": {"type": "integer", "minimum": 0, "maximum": 100},
        },
        "required": ["answer"],
        "additionalProperties": False,
    }
)


async def set_schema(trainer: Trainer, schema: str, key: Metadata | None = None) -> bot_pb2.Bot:
    """Pin a schema to the FAQ bot of aurora."""
    request = registry_service_pb2.SetAnswerSchemaRequest(name=FAQ, answer_schema=schema)
    return await trainer.registry.SetAnswerSchema(request, metadata=key or trainer.admin)


def of(value: Any, **more: Any) -> dict[str, Any]:
    """Return a schema of an object with one property."""
    return {"type": "object", "properties": {"a": value}, **more}


def deep(num_levels: int) -> dict[str, Any]:
    """Return a schema with so many levels of objects."""
    return of(deep(num_levels - 1) if num_levels > 2 else {"type": "null"})


def texts(*lengths: int) -> dict[str, Any]:
    """Return a schema of one text for each longest length."""
    return {"type": "object", "properties": {f"p{most}": {"type": "string", "maxLength": most} for most in lengths}}


def wide(value: Any) -> dict[str, Any]:
    """Return a schema of an object with sixteen properties."""
    return {"type": "object", "properties": {f"p{place}": value for place in range(16)}}


TO_B = {"$ref": "#/$defs/b"}
BAD = [
    ("SCHEMA_NOT_JSON", "$", "{"),
    ("SCHEMA_NOT_JSON", "$", "[]"),
    ("SCHEMA_NOT_JSON", "$", '{"type": "object", "type": "object"}'),
    ("SCHEMA_NOT_JSON", "$", '{"title": "\\ud800"}'),
    ("SCHEMA_NOT_JSON", "$", '{"x":' * 3_000),
    ("SCHEMA_TOO_LARGE", "$", of({"type": "null"}, title="x" * 16_384)),
    ("SCHEMA_TOO_LARGE", "$" + ".properties.a" * 8, deep(9)),
    ("SCHEMA_TOO_LARGE", "$.properties.a.enum", of({"enum": list(range(257))})),
    ("SCHEMA_TOO_LARGE", "$.properties.a.maxLength", of({"type": "string", "maxLength": 4_097})),
    ("SCHEMA_TOO_LARGE", "$.properties.a.minItems", of({"type": "array", "items": {"type": "null"}, "minItems": 257})),
    ("SCHEMA_TOO_LARGE", "$.properties.a.maximum", of({"type": "integer", "maximum": 2**53})),
    ("SCHEMA_TOO_LARGE", "$.properties.p105", texts(*range(100, 110))),
    (
        "SCHEMA_TOO_LARGE",
        "$.$defs.wide.properties.p7",
        {**wide({"$ref": "#/$defs/wide"}), "$defs": {"wide": wide({"type": "null"})}},
    ),
    ("SCHEMA_INVALID", "$.properties.a.type", of({"type": "text"})),
    ("SCHEMA_INVALID", "$.properties.a.minLength", of({"type": "string", "minLength": -1})),
    ("SCHEMA_NOT_AN_OBJECT", "$", {"type": "string"}),
    ("SCHEMA_NOT_AN_OBJECT", "$", {"anyOf": [of({"type": "null"})]}),
    ("SCHEMA_UNSUPPORTED", "$", {"type": "object"}),
    ("SCHEMA_UNSUPPORTED", "$", of({"type": "null"}, minProperties=1)),
    ("SCHEMA_UNSUPPORTED", "$.additionalProperties", of({"type": "null"}, additionalProperties=True)),
    ("SCHEMA_UNSUPPORTED", "$.properties", {"type": "object", "properties": {'"': {"type": "null"}}}),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of(True)),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"minLength": 1})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"type": "string", "pattern": "^a$"})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"type": "string", "format": "uuid", "maxLength": 9})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a.format", of({"type": "string", "format": "date"})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a.type", of({"type": ["string", "null"]})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"type": "integer", "multipleOf": 3})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a.minimum", of({"type": "integer", "minimum": 0.5})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"type": "integer", "minimum": 1, "exclusiveMinimum": 1})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a.maxLength", of({"type": "string", "maxLength": 5.0})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"type": "array"})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"type": "array", "items": {"type": "null"}, "uniqueItems": True})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"oneOf": [{"type": "null"}]})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"anyOf": [{"type": "null"}], "type": "null"})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a", of({"enum": ["a"], "minLength": 1})),
    ("SCHEMA_UNSUPPORTED", "$.properties.a.const", of({"const": [1]})),
    ("SCHEMA_UNSUPPORTED", "$.$defs", of({"type": "null"}, **{"$defs": {"a/b": {}}})),
    ("SCHEMA_REF", "$.properties.a.$ref", of({"$ref": "https://example.com/schema"})),
    ("SCHEMA_REF", "$.properties.a.$ref", of({"$ref": "#/$defs/gone"})),
    ("SCHEMA_REF", "$.$defs.b.properties.a.$ref", of(TO_B, **{"$defs": {"b": of(TO_B)}})),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a", of(False)),
    ("SCHEMA_IMPOSSIBLE", "$.required", of({"type": "null"}, required=["b"])),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a.enum", of({"enum": []})),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a.enum", of({"type": "integer", "enum": [1, True]})),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a.const", of({"type": "string", "const": 1})),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a", of({"type": "string", "minLength": 2, "maxLength": 1})),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a.anyOf[0]", of({"anyOf": [{"type": "number", "minimum": 2, "maximum": 1}]})),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a", of({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2})),
    ("SCHEMA_IMPOSSIBLE", "$.properties.a", of({"type": "number", "minimum": 1, "exclusiveMaximum": 1})),
]


@pytest.mark.parametrize(("reason", "path", "schema"), BAD)
def test_a_schema_that_is_not_wholly_enforced_is_refused(reason: str, path: str, schema: dict[str, Any] | str) -> None:
    """Each has its own reason, and the place in the schema; nothing is taken that an engine would only half keep."""
    with pytest.raises(BadSchema) as refused:
        check_answer_schema(schema if isinstance(schema, str) else json.dumps(schema))

    assert (refused.value.reason, refused.value.metadata["path"]) == (reason, path)
    assert [violation.field for violation in refused.value.violations] == ["answer_schema"]


async def test_the_operator_pins_a_schema_and_takes_it_away(trainer: Trainer) -> None:
    """The bot has it, as it was written; servers hear of it as of any change, and of its end."""
    await trainer.add_tenant("aurora")
    await trainer.add_bot("aurora")
    watch = trainer.registry.WatchServing(registry_service_pb2.WatchServingRequest(), metadata=trainer.server)

    before = (await watch.read()).snapshot
    pinned = await set_schema(trainer, GOOD)
    heard = [await watch.read()]
    freed = await set_schema(trainer, "")
    heard.append(await watch.read())
    watch.cancel()

    assert [bot.answer_schema for bot in (*before.bots, pinned, freed)] == ["", GOOD, ""]
    assert [told(update) for update in heard] == [(FAQ, GOOD), (FAQ, "")]
    assert pinned.routes == freed.routes


async def test_a_bot_is_created_with_its_schema(trainer: Trainer) -> None:
    """The operator may pin it from the first."""
    await trainer.add_tenant("aurora")

    created = await create(trainer, bot_pb2.BOT_KIND_SUPPORT, trainer.admin)

    get = registry_service_pb2.GetBotRequest(name=created.name)
    assert (await trainer.registry.GetBot(get, metadata=trainer.admin)).answer_schema == GOOD


async def test_a_tenant_does_not_pin_schemas(trainer: Trainer) -> None:
    """They are the operator's: a tenant's key is refused, for a new bot too, and what is there stays."""
    key = await trainer.add_tenant("aurora")
    await trainer.add_bot("aurora")
    await set_schema(trainer, GOOD)

    with pytest.raises(grpc.aio.AioRpcError) as pinning:
        await set_schema(trainer, "", key)
    with pytest.raises(grpc.aio.AioRpcError) as creating:
        await create(trainer, bot_pb2.BOT_KIND_FAQ, key)

    get = registry_service_pb2.GetBotRequest(name=FAQ)
    assert [refused.value.code() for refused in (pinning, creating)] == [grpc.StatusCode.PERMISSION_DENIED] * 2
    assert (await trainer.registry.GetBot(get, metadata=key)).answer_schema == GOOD


async def test_code_bots_have_no_schema(trainer: Trainer) -> None:
    """Code is no JSON: refused for a new bot as for one that is there."""
    await trainer.add_tenant("aurora")

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await create(trainer, bot_pb2.BOT_KIND_CODE_COMPLETION, trainer.admin)

    assert reason_of(refused.value) == "SCHEMA_WRONG_KIND"


async def test_a_bad_schema_is_told_with_its_place_and_changes_nothing(trainer: Trainer) -> None:
    """The caller learns what, where and why; the schema before stays."""
    await trainer.add_tenant("aurora")
    await trainer.add_bot("aurora")
    await set_schema(trainer, GOOD)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await set_schema(trainer, json.dumps(of({"type": "string", "pattern": "^a$"})))

    get = registry_service_pb2.GetBotRequest(name=FAQ)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info_of(refused.value).metadata["path"] == "$.properties.a"
    assert (await trainer.registry.GetBot(get, metadata=trainer.admin)).answer_schema == GOOD


async def create(trainer: Trainer, kind: bot_pb2.BotKind, key: Metadata) -> bot_pb2.Bot:
    """Create a bot of aurora with a schema."""
    bot = bot_pb2.Bot(kind=kind, base_model="tiny", answer_schema=GOOD)
    request = registry_service_pb2.CreateBotRequest(parent="tenants/aurora", bot_id="new", bot=bot)
    return await trainer.registry.CreateBot(request, metadata=key)


def told(update: serving_pb2.ServingUpdate) -> tuple[str, str]:
    """Return the name and the schema of the one bot that an update tells of."""
    (bot,) = update.delta.changed.bots
    return bot.name, bot.answer_schema
