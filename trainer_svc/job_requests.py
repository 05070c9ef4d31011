"""Reads what the trainer's requests bring in: checks every field, and tells of all that are bad at once."""

from collections.abc import Callable
from typing import TypeVar

from adaptory.core.auth import not_found
from adaptory.core.errors import InvalidRequest, NotServed
from adaptory.core.names import BotName, DatasetName, TenantName
from adaptory.core.violations import Violations
from adaptory.trainer.v1 import training_job_pb2
from trainer_svc.jobs.planning import JobOrder
from trainer_svc.memory.techniques import Method

_MAX_ALPHA = 1024
MAX_LEARNING_RATE = 0.1
_MAX_EPOCHS = 100
_MAX_BATCH_ROWS = 1024
_MIN_ROW_TOKENS = 16
_MAX_PATIENCE = 100
_MIN_SHARE, _MAX_SHARE = 0.01, 0.5

# Those the worker has a step for.
_METHODS = {
    training_job_pb2.TRAINING_METHOD_UNSPECIFIED: Method.QLORA,
    training_job_pb2.TRAINING_METHOD_QLORA: Method.QLORA,
    training_job_pb2.TRAINING_METHOD_LORA: Method.LORA,
}

Name = TypeVar("Name", BotName, DatasetName)


def read_order(message: training_job_pb2.TrainingJob, *, parent: TenantName, max_rank: int) -> JobOrder:
    """Read a job that is asked for; `max_rank` is what the servers load.

    Raises InvalidRequest with every bad field, NotServed for a method that is not served, NotFound for a thing of another tenant.
    """
    violations = Violations()
    bot = _collect(lambda: BotName.parse(message.bot, field="training_job.bot"), violations)
    dataset = _collect(lambda: DatasetName.parse(message.dataset, field="training_job.dataset"), violations)
    _check_settings(message.settings, violations, max_rank=max_rank)
    violations.check(
        field="training_job.settings.method",
        is_good=message.settings.method in training_job_pb2.TrainingMethod.values(),
        sentence="is not a method of this contract; leave it out for QLORA",
    )
    limit_bytes = message.memory_limit_bytes
    violations.check(
        field="training_job.memory_limit_bytes",
        is_good=limit_bytes >= 0,
        sentence=f"is {limit_bytes}; it must be 0, which is all the device has, or more",
    )
    violations.raise_if_any()
    method = _read_method(message.settings.method)
    order = JobOrder(bot[0], dataset[0], method, _read_given(message.settings), limit_bytes)
    for name in (order.bot, order.dataset):
        if name.tenant != parent.tenant:
            raise not_found(str(name))
    return order


def _collect(parse: Callable[[], Name], violations: Violations) -> list[Name]:
    """Return what was parsed; an empty list, and a violation noted, when it cannot be."""
    try:
        return [parse()]
    except InvalidRequest as error:
        violations.add(error)
        return []


def _check_settings(settings: training_job_pb2.TrainingSettings, violations: Violations, *, max_rank: int) -> None:
    """Note every value out of its range; a field left out is good."""
    ranges: tuple[tuple[str, bool, str], ...] = (
        ("rank", 1 <= settings.rank <= max_rank, f"1 to {max_rank}, the highest this service's servers load"),
        ("alpha", 1 <= settings.alpha <= _MAX_ALPHA, f"1 to {_MAX_ALPHA}"),
        (
            "learning_rate",
            0 < settings.learning_rate <= MAX_LEARNING_RATE,
            f"above 0 and at most {MAX_LEARNING_RATE}",
        ),
        ("epochs", 1 <= settings.epochs <= _MAX_EPOCHS, f"1 to {_MAX_EPOCHS}"),
        ("batch_rows", 1 <= settings.batch_rows <= _MAX_BATCH_ROWS, f"1 to {_MAX_BATCH_ROWS}"),
        ("max_row_tokens", settings.max_row_tokens >= _MIN_ROW_TOKENS, f"{_MIN_ROW_TOKENS} or more"),
        ("seed", settings.seed >= 0, "0 or more"),
        ("max_steps", settings.max_steps >= 1, "1 or more"),
        (
            "early_stopping_patience",
            0 <= settings.early_stopping_patience <= _MAX_PATIENCE,
            f"0, which never stops early, to {_MAX_PATIENCE}",
        ),
        (
            "held_out_share",
            _MIN_SHARE <= settings.held_out_share <= _MAX_SHARE,
            f"{_MIN_SHARE} to {_MAX_SHARE}",
        ),
    )
    for field, is_good, rule in ranges:
        violations.check(
            field=f"training_job.settings.{field}",
            is_good=is_good or not settings.HasField(field),
            sentence=f"is {getattr(settings, field)}; it must be {rule}",
        )


def _read_method(method: training_job_pb2.TrainingMethod) -> Method:
    if method not in _METHODS:
        name = training_job_pb2.TrainingMethod.Name(method).removeprefix("TRAINING_METHOD_")
        raise NotServed(f"The method {name} is not served yet; served are QLORA and LORA.", metadata={"method": name})
    return _METHODS[method]


def _read_given(settings: training_job_pb2.TrainingSettings) -> dict[str, int | float]:
    return {field.name: value for field, value in settings.ListFields() if field.name != "method"}
