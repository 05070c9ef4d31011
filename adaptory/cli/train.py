"""`adaptory train`: from a file to a version of a bot, in one command."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from adaptory.cli.dataset import upload_data
from adaptory.cli.kinds import Method
from adaptory.cli.output import AsJson, note, print_json, print_message, say, to_dict
from adaptory.cli.plan_view import format_seconds
from adaptory.cli.sizes import format_bytes, parse_bytes
from adaptory.cli.target import target_of
from adaptory.cli.training_view import describe_peak, show_training
from adaptory.client import BlockingClient, RpcFailed
from adaptory.core.errors import InvalidRequest
from adaptory.registry.v1.version_pb2 import Evaluation, Lineage, Version
from adaptory.trainer.v1.training_job_pb2 import MemoryPlan, TrainingJob, TrainingSettings

DataOption = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A file to upload and train on.")]
LimitOption = Annotated[str, typer.Option(metavar="SIZE", help="Memory limit, such as 1GiB; 0 is all.")]


def train(  # noqa: PLR0913 - one option for each setting of the contract
    context: typer.Context,
    *,
    bot: Annotated[str, typer.Option(help="tenants/TENANT/bots/BOT, whose next version is made.")],
    data: DataOption = None,
    dataset: Annotated[str, typer.Option(help="Train on tenants/TENANT/datasets/ID instead of a file.")] = "",
    limit: LimitOption = "0",
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many optimizer steps.")] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Rows per optimizer step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    rank: Annotated[int | None, typer.Option(help="LoRA rank.")] = None,
    alpha: Annotated[
        int | None, typer.Option(help="LoRA alpha: what the adapter learns is scaled by alpha / rank.")
    ] = None,
    max_row_tokens: Annotated[int | None, typer.Option(help="Tokens of the longest row there may be.")] = None,
    held_out_share: Annotated[float | None, typer.Option(help="Share of rows kept from training to judge by.")] = None,
    method: Annotated[Method, typer.Option(help="qlora, or lora: on the base's original values.")] = Method.QLORA,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs in which the held-out loss did not fall; 0 is never.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of order and initial weights.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say how the limit would be kept, and train nothing.")] = False,
    promote: Annotated[bool, typer.Option("--promote", help="Let the new version answer once it is READY.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the next version of a bot and watch it. What is left out takes the recipe of the bot's kind."""
    settings = TrainingSettings(
        method=method.to_proto(),
        epochs=epochs,
        max_steps=max_steps,
        batch_rows=batch_rows,
        learning_rate=learning_rate,
        rank=rank,
        alpha=alpha,
        max_row_tokens=max_row_tokens,
        held_out_share=held_out_share,
        early_stopping_patience=patience,
        seed=seed,
    )
    limit_bytes = parse_bytes(limit, field="--limit")
    with target_of(context).open_client() as client:
        name = _find_dataset(client, bot, data, dataset)
        wanted = TrainingJob(bot=bot, dataset=name, memory_limit_bytes=limit_bytes, settings=settings)
        if plan:
            planned = client.jobs.plan(wanted)
            if as_json:
                print_message(planned, as_json=True)
            else:
                say("\n".join(_describe_plans(planned)))
            return
        job = _run(client, wanted)
        _end(client, job, promote=promote, as_json=as_json)


def _find_dataset(client: BlockingClient, bot: str, data: Path | None, dataset: str) -> str:
    if (data is None) == (not dataset):
        raise InvalidRequest.of_field("--data", "give a file with --data, or a dataset with --dataset, and not both")
    return dataset if data is None else upload_data(client, bot, data)


def _run(client: BlockingClient, wanted: TrainingJob) -> TrainingJob:
    job = client.jobs.create(wanted, request_id=str(uuid.uuid4()))
    note(_describe_plan(job.plan))
    console = Console(stderr=True)
    try:
        show_training(console, job.plan.limit_bytes, client.jobs.watch(job.name))
    except KeyboardInterrupt:
        console.print(
            f"{job.name} goes on. `adaptory job watch {job.name}` shows it again, `adaptory job cancel` stops it."
        )
        raise typer.Exit(130) from None
    return client.jobs.get(job.name)


def _end(client: BlockingClient, job: TrainingJob, *, promote: bool, as_json: bool) -> None:
    if job.state == TrainingJob.STATE_FAILED:
        raise RpcFailed.from_status(job.error)
    if job.state == TrainingJob.STATE_CANCELLED:
        say(f"{job.name} was cancelled.")
        raise typer.Exit(1)
    version = client.bots.get_version(job.version)
    is_promoted = promote and not version.rejection
    if is_promoted:
        client.bots.promote(version.name)
    if as_json:
        print_json({"training_job": to_dict(job), "version": to_dict(version), "promoted": is_promoted})
    else:
        _tell_end(job, version, is_promoted=is_promoted)
    if promote and not is_promoted:
        raise typer.Exit(1)


def _tell_end(job: TrainingJob, version: Version, *, is_promoted: bool) -> None:
    scores = version.evaluation
    main = (
        f"{scores.scores[0].name} {scores.scores[0].adapter:.2f} (base {scores.scores[0].base:.2f}), "
        if scores.scores
        else ""
    )
    say(
        f"{version.name}: {main}held-out loss {scores.adapter_loss:.3f} (base {scores.base_loss:.3f}), "
        f"{scores.train_tokens_per_second:,.0f} tokens/s, peak memory {describe_peak(job.measured_peak_bytes, job.plan.limit_bytes)}"
        f"{_describe_choice(version.lineage)}{_describe_tests(scores)}"
    )
    for sentence in scores.notes:
        say(sentence)
    if version.rejection:
        say(
            f"It did not pass the gate and does not answer: {version.rejection} To let it answer all the same: "
            f"`adaptory bot promote {version.name} --override-gate REASON`."
        )
        return
    say("It answers from now on." if is_promoted else f"Next: `adaptory bot promote {version.name}` lets it answer.")


def _describe_choice(lineage: Lineage) -> str:
    """Return which adapter was kept, where it is not the last one."""
    if lineage.best_step in (0, lineage.num_steps):
        return ""
    return f", the adapter of step {lineage.best_step} of {lineage.num_steps}"


def _describe_tests(found: Evaluation) -> str:
    """Return how many held-out tests pass, where any were run."""
    return "".join(
        f", pass@1 {score.adapter:.2f} (base {score.base:.2f}) of {score.num_answers} tests"
        for score in found.scores
        if score.name == "pass_at_1"
    )


def _describe_plans(plan: MemoryPlan) -> Iterator[str]:
    yield _describe_plan(plan)
    for other in plan.alternatives:
        yield f"or {_describe_plan(other).removeprefix('Plan: ')}"


def _describe_plan(plan: MemoryPlan) -> str:
    limit = f" of {format_bytes(plan.limit_bytes)}" if plan.limit_bytes else ""
    time = f", about {format_seconds(plan.expected_seconds)}" if plan.expected_seconds else ""
    return (
        f"Plan: {format_bytes(plan.predicted_peak_bytes)}{limit}{time}; {plan.summary}, {plan.accumulation} for a step"
    )
