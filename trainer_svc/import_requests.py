"""Reads what ImportAdapter brings in, and checks every field at once."""

from adaptory.core.auth import not_found
from adaptory.core.names import BotName, DatasetName
from adaptory.core.violations import Violations
from adaptory.registry.v1 import registry_service_pb2
from trainer_svc.importing.importer import ImportOrder

_MAX_ORIGIN_CHARS = 1_000


def read_import(request: registry_service_pb2.ImportAdapterRequest, bot: BotName) -> ImportOrder:
    """Return an import that is asked for. Raises InvalidRequest, and NotFound for a dataset of another tenant than the bot's."""
    violations = Violations()
    violations.check_length(request.origin, field="origin", limit=_MAX_ORIGIN_CHARS)
    limit_bytes = request.memory_limit_bytes
    violations.check(
        field="memory_limit_bytes",
        is_good=limit_bytes >= 0,
        sentence=f"is {limit_bytes}; it must be 0, which is all the device has, or more",
    )
    violations.raise_if_any()
    judging = request.judging_dataset
    return ImportOrder(
        bot=bot,
        dataset=_read_dataset(request.dataset, bot, field="dataset"),
        origin=request.origin.strip(),
        judging_dataset=_read_dataset(judging, bot, field="judging_dataset") if judging else None,
        memory_limit_bytes=limit_bytes,
    )


def _read_dataset(name: str, bot: BotName, *, field: str) -> DatasetName:
    dataset = DatasetName.parse(name, field=field)
    if dataset.tenant != bot.tenant:
        raise not_found(name)
    return dataset
