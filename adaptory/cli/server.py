"""`adaptory server`: what a running serve_svc holds, and what an operator does about it."""

import typer

from adaptory.cli.batches import tell_batches
from adaptory.cli.bot import VersionArgument
from adaptory.cli.output import AsJson, print_message, print_table, say
from adaptory.cli.sizes import format_bytes
from adaptory.cli.target import target_of
from adaptory.serve.v1.serve_admin_service_pb2 import KnownVersion, Residency

app = typer.Typer(no_args_is_help=True, help="A running serve_svc, for operators.")


@app.command("show")
def show(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show every version the server knows something of: how far it has come, who uses it, and why it is refused."""
    with target_of(context).open_server_client() as client:
        residency = client.serving.get_residency()
    if as_json:
        print_message(residency, as_json=True)
        return
    rows = [
        (known.version, _tell_state(known), str(known.num_leases), _tell_quarantine(known))
        for known in residency.versions
    ]
    print_table("Adapters", ("version", "state", "used by", "why it is refused"), rows)
    say(_tell_tiers(residency))
    say(f"The engine takes {tell_batches(residency.batches)}.")


@app.command("release")
def release(context: typer.Context, version: VersionArgument, *, as_json: AsJson = False) -> None:
    """End a version's quarantine: its next request tries to load it again."""
    with target_of(context).open_server_client() as client:
        released = client.serving.release(version)
    if as_json:
        print_message(released, as_json=True)
        return
    if released.HasField("quarantine"):
        say(f"{version} was in quarantine ({released.quarantine.reason}); its next request tries it again.")
    else:
        say(f"{version} was in no quarantine.")


def _tell_state(known: KnownVersion) -> str:
    return KnownVersion.State.Name(known.state).removeprefix("STATE_").lower()


def _tell_quarantine(known: KnownVersion) -> str:
    if not known.HasField("quarantine"):
        return ""
    quarantine = known.quarantine
    end = (
        f"tried again at {quarantine.retry_time.ToJsonString()}"
        if quarantine.HasField("retry_time")
        else "until it is released"
    )
    return f"{quarantine.reason} since {quarantine.since_time.ToJsonString()}, {end}: {quarantine.message}"


def _tell_tiers(residency: Residency) -> str:
    following = "follows the registry" if residency.following else "has lost the registry"
    memory = residency.memory
    limit = f" of {format_bytes(memory.limit_bytes)}" if memory.HasField("limit_bytes") else ""
    disk = f"{format_bytes(residency.disk_bytes)} of {format_bytes(residency.max_disk_bytes)} on disk"
    return (
        f"{len(residency.adapters)} of at most {residency.max_resident} adapters in the engine, {disk}, and "
        f"{format_bytes(memory.total_bytes)}{limit} of memory when full. The server {following}, generation {residency.generation}; "
        f"engines built: {residency.num_engine_starts}."
    )
