"""`adaptory version`: one version of a bot, where it comes from and what it took."""

import typer

from adaptory.cli.bot import VersionArgument
from adaptory.cli.memory_table import print_memory
from adaptory.cli.output import AsJson, print_message
from adaptory.cli.target import target_of

app = typer.Typer(no_args_is_help=True, help="Versions of bots; `adaptory bot versions` lists them.")


@app.callback()
def begin() -> None:
    """Keep `show` a command of its own: typer would else fold a lone command into its group."""


@app.command("show")
def show(context: typer.Context, version: VersionArgument, *, as_json: AsJson = False) -> None:
    """Show a version: where it comes from, what it scored, and the memory that was planned and measured."""
    with target_of(context).open_client() as client:
        found = client.bots.get_version(version)
    print_message(found, as_json=as_json)
    if not as_json:
        print_memory(found.lineage.predicted_phase_bytes, found.lineage.phase_peak_bytes)
