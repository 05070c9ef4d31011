"""What a card holds, and where it is collected from: the version, the job that made or judged it with its events, and its dataset.

Nothing is kept: a card is made anew of what the registry has, so it says what is true when it is asked for.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from adaptory.client.blocking import BlockingClient
from adaptory.registry.v1.bot_pb2 import Bot
from adaptory.registry.v1.dataset_pb2 import Dataset
from adaptory.registry.v1.version_pb2 import Version
from adaptory.trainer.v1.training_job_pb2 import MemoryClimb, TrainingEvent, TrainingJob


@dataclass(frozen=True, slots=True)
class TrainedStep:
    """One optimizer step: `loss` is the mean over its learned tokens, in nats; `peak_bytes` the job's peak so far.

    `held_out_loss` is that of held-out rows, where it was measured after this step.
    """

    step: int
    loss: float
    learning_rate: float
    peak_bytes: int
    held_out_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """Everything a card tells, as the contract has it. A version that was imported and is not judged has no job and no dataset."""

    version: Version
    bot: Bot
    job: TrainingJob | None
    dataset: Dataset | None
    steps: tuple[TrainedStep, ...]
    climbs: tuple[MemoryClimb, ...]

    def to_json(self) -> dict[str, object]:
        """Return it under the contract's field names, unset fields included."""
        return {
            "version": _to_dict(self.version),
            "bot": _to_dict(self.bot),
            "training_job": self.job and _to_dict(self.job),
            "dataset": self.dataset and _to_dict(self.dataset),
            "steps": [asdict(step) for step in self.steps],
            "climbs": [_to_dict(climb) for climb in self.climbs],
        }


def collect_card(client: BlockingClient, version_name: str) -> Card:
    """Return the card of `tenants/{tenant}/bots/{bot}/versions/{n}`. Raises RpcFailed."""
    version = client.bots.get_version(version_name)
    job = client.jobs.get(version.lineage.training_job) if version.lineage.training_job else None
    # What was judged comes of a job that has ended, and so has its stream; one that is to judge may still run.
    events = list(client.jobs.watch(job.name)) if job and version.HasField("evaluation") else []
    return Card(
        version=version,
        bot=client.bots.get(version_name.rpartition("/versions/")[0]),
        job=job,
        dataset=client.datasets.get(job.dataset) if job else None,
        steps=tuple(_read_steps(events)),
        climbs=tuple(event.climb for event in events if event.WhichOneof("event") == "climb"),
    )


def _read_steps(events: list[TrainingEvent]) -> Iterator[TrainedStep]:
    """Yield the steps of the last attempt: an attempt that was lost is begun again from its first step.

    A step after which something was measured is told twice, the second time with what was.
    """
    last = 0
    taken: list[TrainedStep] = []
    for event in events:
        progress = event.progress
        if (
            event.WhichOneof("event") != "progress"
            or progress.phase != "step"
            or not progress.step
            or not progress.loss
        ):
            continue
        if progress.step == last:
            taken.pop()
        elif progress.step < last:
            taken = []
        held_out_loss = progress.held_out_loss if progress.HasField("held_out_loss") else None
        taken.append(
            TrainedStep(progress.step, progress.loss, progress.learning_rate, progress.peak_bytes, held_out_loss)
        )
        last = progress.step
    yield from taken


def _to_dict(message: Message) -> dict[str, object]:
    fields: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields
