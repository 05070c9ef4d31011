"""`adaptory dataset`: training data."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from adaptory.cli.dataset_view import describe, name_state, print_report
from adaptory.cli.failure import BAD_INPUT
from adaptory.cli.kinds import Kind, Layout, format_of, kind_name
from adaptory.cli.output import AsJson, note, print_json, print_message, print_table, to_dict
from adaptory.cli.sizes import format_bytes
from adaptory.cli.target import target_of
from adaptory.cli.tenant import TenantArgument, tenant_name
from adaptory.client import BlockingClient, Upload
from adaptory.client.datasets import OnBytes
from adaptory.client.jobs import tenant_of
from adaptory.registry.v1.dataset_pb2 import Dataset

app = typer.Typer(no_args_is_help=True, help="Training data.")

DataFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The file to upload.")]
KindOption = Annotated[Kind, typer.Option(help="What the data teaches.")]
LayoutOption = Annotated[
    Layout | None, typer.Option("--format", help="How the file is laid out; its ending tells else.")
]


@app.command("upload")
def upload(
    context: typer.Context,
    tenant: TenantArgument,
    file: DataFile,
    kind: KindOption = Kind.FAQ,
    *,
    layout: LayoutOption = None,
    base: Annotated[str, typer.Option(help="Measure rows by this base model, that of the bot to be trained.")] = "",
    display_name: Annotated[str, typer.Option(help="What people call it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Upload a file and check every line of it. Run it again to go on with an upload that was interrupted."""
    dataset_format = layout.to_proto() if layout else format_of(file, kind)
    wanted = Upload(file, kind.to_proto(), dataset_format, display_name, base)
    with target_of(context).open_client() as client:
        dataset = upload_file(client, tenant_name(tenant), wanted)
    if as_json:
        print_message(dataset, as_json=True)
    else:
        print_report(dataset)
    if dataset.state == Dataset.STATE_REJECTED:
        raise typer.Exit(BAD_INPUT)


@app.command("list")
def list_all(context: typer.Context, tenant: TenantArgument, *, as_json: AsJson = False) -> None:
    """List a tenant's datasets, newest first."""
    with target_of(context).open_client() as client:
        datasets = list(client.datasets.list_all(tenant_name(tenant)))
    if as_json:
        print_json([to_dict(dataset) for dataset in datasets])
        return
    rows = [
        (
            item.name,
            kind_name(item.kind),
            name_state(item),
            f"{item.report.num_entries:,}",
            format_bytes(item.size_bytes),
        )
        for item in datasets
    ]
    print_table(f"Datasets of {tenant_name(tenant)}", ("dataset", "kind", "state", "entries", "size"), rows)


@app.command("show")
def show(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="tenants/TENANT/datasets/ID")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show a dataset and what was found in it."""
    with target_of(context).open_client() as client:
        found = client.datasets.get(dataset)
    if as_json:
        print_message(found, as_json=True)
    else:
        print_report(found)


def upload_file(client: BlockingClient, tenant: str, upload: Upload) -> Dataset:
    """Upload with a bar on standard error; return the dataset, READY or REJECTED."""
    with show_upload(upload.file.name) as on_bytes:
        return client.datasets.upload(tenant, upload, on_bytes=on_bytes)


def upload_data(client: BlockingClient, bot: str, file: Path) -> str:
    """Upload data of a bot's kind and return the dataset's name. Prints the report, and exits, where it is REJECTED."""
    found = client.bots.get(bot)
    kind = Kind(kind_name(found.kind))
    upload = Upload(file, kind.to_proto(), format_of(file, kind), base_model=found.base_model)
    uploaded = upload_file(client, tenant_of(bot), upload)
    if uploaded.state == Dataset.STATE_REJECTED:
        print_report(uploaded)
        raise typer.Exit(BAD_INPUT)
    note(describe(uploaded))
    return uploaded.name


@contextmanager
def show_upload(name: str) -> Iterator[OnBytes]:
    """Show a bar on standard error, and yield what moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Uploading {name}", total=None)
        yield lambda sent, total: progress.update(bar, completed=sent, total=total)
