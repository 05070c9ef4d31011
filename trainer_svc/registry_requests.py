"""Reads what the registry's requests bring in: checks every field, and tells of all that are bad at once.

What returns from here is good; nothing behind it checks a field again.
"""

from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName, TenantName, check_id
from adaptory.core.violations import Violations
from adaptory.registry.v1 import bot_pb2, dataset_pb2, registry_service_pb2
from trainer_svc.bot_requests import check_judgement, read_gate, read_refusal, read_style
from trainer_svc.bots.answer_schema import check_answer_schema, require_schema_kind
from trainer_svc.bots.formats import formats_of, layout_of
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.teaching import served_kinds, teaching_of
from trainer_svc.registry.bots import BotDraft, GenerationDefaults
from trainer_svc.registry.datasets import DatasetDraft

_MAX_DISPLAY_NAME_CHARS = 200
_MAX_SYSTEM_PROMPT_CHARS = 4_000
_MAX_CHUNK_BYTES = 1024 * 1024
_MAX_OUTPUT_TOKENS = 32_768
_MAX_TEMPERATURE = 2.0
_MAX_REASON_CHARS = 1_000
_MAX_PERCENT = 100


def check_display_name(text: str) -> None:
    """Raise InvalidRequest when a display name is too long."""
    violations = Violations()
    violations.check_length(text, field="display_name", limit=_MAX_DISPLAY_NAME_CHARS)
    violations.raise_if_any()


def read_new_dataset(dataset: dataset_pb2.Dataset) -> DatasetDraft:
    """Check a new dataset. Raises InvalidRequest, and NotServed where its kind or format is not read yet."""
    violations = Violations()
    _check_kind(dataset.kind, "dataset.kind", violations)
    violations.check(
        field="dataset.format",
        is_good=dataset.format in _FORMATS,
        sentence="is required, such as DATASET_FORMAT_FAQ_JSONL",
    )
    violations.check_length(dataset.display_name, field="dataset.display_name", limit=_MAX_DISPLAY_NAME_CHARS)
    violations.raise_if_any()
    draft = DatasetDraft(_KINDS[dataset.kind], _FORMATS[dataset.format], dataset.display_name)
    teaching_of(draft.kind)
    if not draft.format.is_data:
        return draft
    layout = layout_of(draft.format)
    if draft.kind not in layout.kinds:
        taken = ", ".join(formats_of(draft.kind))
        raise InvalidRequest.of_field("dataset.format", f"is {draft.format}; data of kind {draft.kind} may be {taken}")
    return draft


def read_new_bot(request: registry_service_pb2.CreateBotRequest, tenant: TenantName) -> BotDraft:
    """Check a new bot. Raises InvalidRequest, BadSchema among them, and NotServed where its kind is not trained yet."""
    bot, violations = request.bot, Violations()
    _check_id(request.bot_id, "bot_id", violations)
    _check_kind(bot.kind, "bot.kind", violations)
    violations.check(
        field="bot.base_model", is_good=bool(bot.base_model), sentence="is required, such as smollm2-135m-instruct"
    )
    violations.check_length(bot.display_name, field="bot.display_name", limit=_MAX_DISPLAY_NAME_CHARS)
    violations.check_length(bot.system_prompt, field="bot.system_prompt", limit=_MAX_SYSTEM_PROMPT_CHARS)
    _check_defaults(bot.generation_defaults, violations)
    check_judgement(bot, violations)
    violations.raise_if_any()
    if bot.answer_schema:
        require_schema_kind(_KINDS[bot.kind])
        check_answer_schema(bot.answer_schema)
    draft = BotDraft(
        name=BotName(tenant.tenant, request.bot_id),
        kind=_KINDS[bot.kind],
        base_model=bot.base_model,
        display_name=bot.display_name,
        system_prompt=bot.system_prompt,
        generation=GenerationDefaults(
            bot.generation_defaults.max_output_tokens,
            bot.generation_defaults.temperature,
            bot.generation_defaults.top_p,
        ),
        gate=read_gate(bot.quality_gate),
        refusal=read_refusal(bot),
        style=read_style(bot.style_rules),
        answer_schema=bot.answer_schema,
    )
    teaching_of(draft.kind)
    return draft


def read_answer_schema(request: registry_service_pb2.SetAnswerSchemaRequest) -> str:
    """Return the schema that answers are to conform to, an empty text where they are to be free. Raises BadSchema."""
    if request.answer_schema:
        check_answer_schema(request.answer_schema)
    return request.answer_schema


def read_override_reason(request: registry_service_pb2.PromoteVersionRequest) -> str:
    """Return why the gate is to be overridden, an empty text where it is not. Raises InvalidRequest when it is too long."""
    violations = Violations()
    violations.check_length(request.override_gate_reason, field="override_gate_reason", limit=_MAX_REASON_CHARS)
    violations.raise_if_any()
    return request.override_gate_reason.strip()


def read_percent(request: registry_service_pb2.SetCanaryRequest | registry_service_pb2.SetShadowRequest) -> int:
    """Return the share of conversations that a canary or a shadow is to have. Raises InvalidRequest when it is no percentage."""
    violations = Violations()
    violations.check(
        field="percent",
        is_good=0 <= request.percent <= _MAX_PERCENT,
        sentence=f"is {request.percent}; it must be 0 to {_MAX_PERCENT}, and 0 ends it",
    )
    violations.raise_if_any()
    return request.percent


def read_end_reason(request: registry_service_pb2.EndCanaryRequest) -> str:
    """Return why a canary ends. Raises InvalidRequest when it is missing or too long."""
    violations = Violations()
    violations.check(field="reason", is_good=bool(request.reason.strip()), sentence="is required")
    violations.check_length(request.reason, field="reason", limit=_MAX_REASON_CHARS)
    violations.raise_if_any()
    return request.reason.strip()


def check_chunk(request: registry_service_pb2.AppendDatasetChunkRequest) -> None:
    """Raise InvalidRequest when a chunk is empty, too large, or begins before the file."""
    violations = Violations()
    num_bytes = len(request.data)
    violations.check(
        field="data",
        is_good=0 < num_bytes <= _MAX_CHUNK_BYTES,
        sentence=f"has {num_bytes} bytes; send 1 to {_MAX_CHUNK_BYTES} at once",
    )
    violations.check(field="offset", is_good=request.offset >= 0, sentence=f"is {request.offset}; it must be 0 or more")
    violations.raise_if_any()


# The enums' zero values are in neither table: they are never valid.
_KINDS = {bot_pb2.BotKind.Value(f"BOT_KIND_{kind}"): kind for kind in BotKind}
_FORMATS = {dataset_pb2.DatasetFormat.Value(f"DATASET_FORMAT_{layout}"): layout for layout in DatasetFormat}


def _check_kind(kind: bot_pb2.BotKind, field: str, violations: Violations) -> None:
    served = ", ".join(f"BOT_KIND_{served}" for served in served_kinds())
    violations.check(field=field, is_good=kind in _KINDS, sentence=f"is required; served are {served}")


def _check_id(value: str, field: str, violations: Violations) -> None:
    try:
        check_id(value, field=field)
    except InvalidRequest as error:
        violations.add(error)


def _check_defaults(defaults: bot_pb2.GenerationDefaults, violations: Violations) -> None:
    violations.check(
        field="bot.generation_defaults.max_output_tokens",
        is_good=0 <= defaults.max_output_tokens <= _MAX_OUTPUT_TOKENS,
        sentence=f"is {defaults.max_output_tokens}; it must be 0 (the default) to {_MAX_OUTPUT_TOKENS}",
    )
    violations.check(
        field="bot.generation_defaults.temperature",
        is_good=0 <= defaults.temperature <= _MAX_TEMPERATURE,
        sentence=f"is {defaults.temperature}; it must be 0 to {_MAX_TEMPERATURE:g}",
    )
    violations.check(
        field="bot.generation_defaults.top_p",
        is_good=0 <= defaults.top_p <= 1,
        sentence=f"is {defaults.top_p}; it must be above 0 and up to 1, or 0 for the default, 1",
    )
