"""`adaptory version import`: a version of a bot from an adapter that was trained elsewhere."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from adaptory.cli.bot import BotArgument
from adaptory.cli.dataset import show_upload, upload_data
from adaptory.cli.output import AsJson, note, print_message, say
from adaptory.cli.sizes import format_bytes, parse_bytes
from adaptory.cli.target import target_of
from adaptory.cli.training_view import show_training
from adaptory.client import BlockingClient, RpcFailed
from adaptory.client.jobs import tenant_of
from adaptory.core.errors import InvalidRequest
from adaptory.registry.v1.version_pb2 import Version
from adaptory.trainer.v1.training_job_pb2 import TrainingJob

_STATES = {
    Version.STATE_READY: "is READY",
    Version.STATE_REJECTED: "was REJECTED",
    Version.STATE_UNJUDGED: "is UNJUDGED",
}


def import_adapter(  # noqa: PLR0913 - each is an option of the command line
    context: typer.Context,
    bot: BotArgument,
    *,
    adapter: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="The folder of adapter_config.json and adapter_model.safetensors."
        ),
    ],
    data: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A file to judge it by.")] = None,
    dataset: Annotated[str, typer.Option(help="Judge it by tenants/TENANT/datasets/ID instead of a file.")] = "",
    origin: Annotated[str, typer.Option(metavar="TEXT", help="Where it comes from; kept with the version.")] = "",
    limit: Annotated[str, typer.Option(metavar="SIZE", help="Memory limit of judging, such as 1GiB; 0 is all.")] = "0",
    check: Annotated[bool, typer.Option("--check", help="Only say what it would be, and keep no version.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import an adapter that was trained elsewhere, by PEFT, LLaMA-Factory, Axolotl, torchtune or Unsloth.

    With data, or a dataset, a job judges it by rows that are held out. Without, it may answer only where somebody gives a reason.
    """
    if data is not None and dataset:
        raise InvalidRequest.of_field("--data", "give a file with --data, or a dataset with --dataset, and not both")
    limit_bytes = parse_bytes(limit, field="--limit")
    with target_of(context).open_client() as client:
        judging = upload_data(client, bot, data) if data else dataset
        kind = client.bots.get(bot).kind
        with show_upload(adapter.name) as on_bytes:
            uploaded = client.datasets.upload_adapter(tenant_of(bot), adapter, kind, on_bytes=on_bytes)
        version = client.bots.import_adapter(
            bot,
            uploaded.name,
            origin=origin,
            judging_dataset=judging,
            memory_limit_bytes=limit_bytes,
            validate_only=check,
        )
        if version.name and version.lineage.training_job:
            version = _follow(client, version)
    if as_json:
        print_message(version, as_json=True)
    else:
        _tell(version)


def _follow(client: BlockingClient, version: Version) -> Version:
    """Show the job that judges a version and return the version as the job left it. Raises RpcFailed where it failed."""
    job = client.jobs.get(version.lineage.training_job)
    note(f"{version.name} is judged by {job.name}.")
    console = Console(stderr=True)
    try:
        show_training(console, job.plan.limit_bytes, client.jobs.watch(job.name))
    except KeyboardInterrupt:
        console.print(f"{job.name} goes on. `adaptory job watch {job.name}` shows it again.")
        raise typer.Exit(130) from None
    ended = client.jobs.get(job.name)
    if ended.state == TrainingJob.STATE_FAILED:
        note(f"{version.name} stays, and is not judged.")
        raise RpcFailed.from_status(ended.error)
    return client.bots.get_version(version.name)


def _tell(version: Version) -> None:
    name = version.name or "The version"
    changes = version.lineage.imported.changes
    for change in changes:
        say(f"  {change}")
    if not version.name:
        say(f"{name} would be of rank {version.rank}, {format_bytes(version.size_bytes)}. Nothing was kept.")
        return
    verdict = f"{name} {_STATES[version.state]}, rank {version.rank}, {format_bytes(version.size_bytes)}."
    say(f"{verdict} {version.rejection}" if version.rejection else verdict)
    override = "" if version.state == Version.STATE_READY else " --override-gate REASON"
    say(f"Next: `adaptory bot promote {name}{override}` lets it answer.")
