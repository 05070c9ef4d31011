"""Trains one bot of the demo and lets its version answer: upload, job, gate, promotion, first word."""

from dataclasses import dataclass

import grpc

from adaptory.cli.sizes import format_bytes
from adaptory.cli.training_view import describe_peak, open_view
from adaptory.client import AdaptoryClient, RpcFailed
from adaptory.registry.v1.dataset_pb2 import Dataset
from adaptory.registry.v1.version_pb2 import Version
from adaptory.trainer.v1.training_job_pb2 import TrainingJob, TrainingSettings
from examples.demo.bots import DemoBot
from examples.demo.hot_load import time_first_token, time_hot_load
from examples.demo.narrator import Narrator
from examples.demo.opening import hear_reply

# Scores in which more is better and which a sentence can name; a card has them all.
_NUM_TOLD = 3


@dataclass(frozen=True, slots=True)
class TrainingLimits:
    """What all jobs of the demo keep to; `max_steps` of None leaves them their own."""

    memory_bytes: int
    max_steps: int | None


@dataclass(frozen=True, slots=True)
class Trained:
    """A version that answers, the job that made it, and what it said first; times in seconds."""

    job: TrainingJob
    version: Version
    hot_load_s: float
    first_token_s: float
    reply: str


async def train_bot(client: AdaptoryClient, bot: DemoBot, limits: TrainingLimits, narrator: Narrator) -> Trained:
    """Train and promote. Raises RpcFailed when the data, the job or the version is refused."""
    narrator.tell(f"Training {bot.name} under {format_bytes(limits.memory_bytes)}")
    dataset = await _upload(client, bot, narrator)
    wanted = TrainingJob(
        bot=bot.name,
        dataset=dataset.name,
        memory_limit_bytes=limits.memory_bytes,
        settings=_shorten(bot.settings, limits.max_steps),
    )
    job = await _run_job(client, wanted, narrator)
    version = await client.bots.get_version(job.version)
    _tell_scores(version, narrator)
    # A version that the gate rejected is not promoted; the service says why, and the demo ends.
    hot_load_s = await time_hot_load(client, version.name, bot.opening)
    first_token_s = await time_first_token(client, bot.name, bot.opening)
    reply = await hear_reply(client, bot.name, bot.opening)
    narrator.add(f"peak memory {describe_peak(job.measured_peak_bytes, limits.memory_bytes)}")
    narrator.add(f"promoted; its first token came {hot_load_s * 1000:,.0f} ms later, without a restart")
    narrator.add(f"asked {bot.opening_text!r}, it says {reply!r}")
    return Trained(job, version, hot_load_s, first_token_s, reply)


async def _upload(client: AdaptoryClient, bot: DemoBot, narrator: Narrator) -> Dataset:
    dataset = await client.datasets.upload(bot.company.tenant, bot.upload)
    if dataset.state != Dataset.STATE_READY:
        message = f"The example data was refused: {dataset.report}"
        raise RpcFailed(grpc.StatusCode.INVALID_ARGUMENT, message, reason="DATA_REJECTED")
    report = dataset.report
    narrator.add(
        f"{bot.upload.file.name}: {report.num_entries:,} entries, {report.num_tokens:,} tokens, {report.num_problems} warnings"
    )
    return dataset


def _shorten(settings: TrainingSettings, max_steps: int | None) -> TrainingSettings:
    shortened = TrainingSettings()
    shortened.CopyFrom(settings)
    if max_steps is not None:
        shortened.max_steps = max_steps
    return shortened


async def _run_job(client: AdaptoryClient, wanted: TrainingJob, narrator: Narrator) -> TrainingJob:
    job = await client.jobs.create(wanted)
    with open_view(narrator.console, job.memory_limit_bytes) as view:
        async for event in client.jobs.watch(job.name):
            view.show(event)
    ended = await client.jobs.get(job.name)
    if ended.state != TrainingJob.STATE_SUCCEEDED:
        raise RpcFailed.from_status(ended.error)
    return ended


def _tell_scores(version: Version, narrator: Narrator) -> None:
    found = version.evaluation
    narrator.add(f"held-out loss {found.base_loss:.3f} → {found.adapter_loss:.3f}")
    told = [
        f"{score.name.replace('_', ' ')} {score.base:.2f} → {score.adapter:.2f}"
        for score in found.scores
        if not score.is_lower_better
    ][:_NUM_TOLD]
    narrator.add(f"{', '.join(told)}, on answers to {found.scores[0].num_answers} prompts it never saw")
