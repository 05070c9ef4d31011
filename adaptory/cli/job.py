"""`adaptory job`: training jobs that were started before."""

from typing import Annotated

import typer
from rich.console import Console

from adaptory.cli.memory_table import print_memory
from adaptory.cli.output import AsJson, print_json, print_message, print_table, say, to_dict
from adaptory.cli.sizes import format_bytes
from adaptory.cli.target import target_of
from adaptory.cli.tenant import TenantArgument, tenant_name
from adaptory.cli.training_view import show_training
from adaptory.trainer.v1.training_job_pb2 import TrainingJob

app = typer.Typer(no_args_is_help=True, help="Training jobs.")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="tenants/TENANT/trainingJobs/ID")]


@app.command("list")
def list_all(context: typer.Context, tenant: TenantArgument, *, as_json: AsJson = False) -> None:
    """List a tenant's jobs, newest first."""
    with target_of(context).open_client() as client:
        jobs = list(client.jobs.list_all(tenant_name(tenant)))
    if as_json:
        print_json([to_dict(job) for job in jobs])
        return
    rows = [(job.name, job.bot, _state_name(job), job.version, format_bytes(job.measured_peak_bytes)) for job in jobs]
    print_table(f"Jobs of {tenant_name(tenant)}", ("job", "bot", "state", "version", "peak memory"), rows)


@app.command("show")
def show(context: typer.Context, job: JobArgument, *, as_json: AsJson = False) -> None:
    """Show a job, with the memory that was planned and what was measured."""
    with target_of(context).open_client() as client:
        found = client.jobs.get(job)
    print_message(found, as_json=as_json)
    if not as_json:
        print_memory(found.plan.phases, found.measured_phase_bytes)


@app.command("watch")
def watch(context: typer.Context, job: JobArgument, *, as_json: AsJson = False) -> None:
    """Follow a job to its end. With --json every event is a line."""
    with target_of(context).open_client() as client:
        limit_bytes = client.jobs.get(job).plan.limit_bytes
        if not as_json:
            show_training(Console(), limit_bytes, client.jobs.watch(job))
            return
        for event in client.jobs.watch(job):
            print_json(to_dict(event))


@app.command("cancel")
def cancel(context: typer.Context, job: JobArgument, *, as_json: AsJson = False) -> None:
    """Ask a job to stop."""
    with target_of(context).open_client() as client:
        cancelled = client.jobs.cancel(job)
    if as_json:
        print_message(cancelled, as_json=True)
        return
    say(f"{cancelled.name} is {_state_name(cancelled)}.")


def _state_name(job: TrainingJob) -> str:
    return TrainingJob.State.Name(job.state).removeprefix("STATE_").lower()
