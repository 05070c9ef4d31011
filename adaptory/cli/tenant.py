"""`adaptory tenant`: companies, their keys and what they may use. For the operator."""

from typing import Annotated

import typer

from adaptory.cli.output import AsJson, print_json, print_message, print_table, say, to_dict
from adaptory.cli.target import target_of
from adaptory.registry.v1.tenant_pb2 import Tenant, TenantLimits

app = typer.Typer(no_args_is_help=True, help="Companies, their keys and limits. For the operator.")

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="A tenant: `aurora` or `tenants/aurora`.")]


def tenant_name(tenant: str) -> str:
    """Return the resource name of a tenant given by id or by name."""
    return tenant if "/" in tenant else f"tenants/{tenant}"


@app.command("create")
def create(
    context: typer.Context,
    tenant_id: Annotated[str, typer.Argument(metavar="ID", help="1 to 63 of a-z, 0-9 and inner hyphens.")],
    display_name: Annotated[str, typer.Option(help="What people call the company.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Create a tenant."""
    with target_of(context).open_client() as client:
        tenant = client.tenants.create(tenant_id, display_name=display_name)
    if as_json:
        print_message(tenant, as_json=True)
        return
    say(f"Created {tenant.name}. Next: `adaptory tenant key {tenant_id}` prints a key for its backend.")


@app.command("list")
def list_all(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List all tenants."""
    with target_of(context).open_client() as client:
        tenants = list(client.tenants.list_all())
    if as_json:
        print_json([to_dict(tenant) for tenant in tenants])
        return
    rows = [
        (tenant.name, tenant.display_name, f"{tenant.create_time.ToDatetime():%Y-%m-%d %H:%M}") for tenant in tenants
    ]
    print_table("Tenants", ("tenant", "name", "created (UTC)"), rows)


@app.command("limits")
def change_limits(  # noqa: PLR0913 - each is an option of the command line
    context: typer.Context,
    tenant: TenantArgument,
    *,
    max_requests_in_flight: Annotated[int | None, typer.Option(min=0, help="At once; 0 is the default.")] = None,
    weight: Annotated[int | None, typer.Option(min=0, help="Share of the engine beside others; 0 is 1.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=0, help="0 is no limit, here and below.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=0, help="Of prompts and answers.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=0, help="Of a UTC day, on all servers.")] = None,
    max_prompt_tokens: Annotated[int | None, typer.Option(min=0, help="Of one prompt.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(min=0, help="Of one answer.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change the limits that are given, for the next request on every server, and show them all."""
    given = {
        "max_requests_in_flight": max_requests_in_flight,
        "weight": weight,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "tokens_per_day": tokens_per_day,
        "max_prompt_tokens": max_prompt_tokens,
        "max_output_tokens": max_output_tokens,
    }
    changes = {limit: value for limit, value in given.items() if value is not None}
    name = tenant_name(tenant)
    with target_of(context).open_client() as client:
        if changes:
            wanted = Tenant(name=name, limits=TenantLimits(**changes))
            found = client.tenants.update(wanted, [f"limits.{limit}" for limit in changes])
        else:
            found = client.tenants.get(name)
    if as_json:
        print_message(found, as_json=True)
        return
    rows = [(limit.replace("_", " "), f"{getattr(found.limits, limit):,}") for limit in given]
    print_table(f"Limits of {name}", ("limit", "value (0: none, or the default)"), rows)


@app.command("key")
def create_key(
    context: typer.Context,
    tenant: TenantArgument,
    display_name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Issue a key. Its secret is printed once and kept nowhere."""
    with target_of(context).open_client() as client:
        key = client.tenants.create_key(tenant_name(tenant), display_name=display_name)
    if as_json:
        print_message(key, as_json=True)
        return
    say(f"{key.name} is shown once and kept nowhere:")
    say(f"export ADAPTORY_KEY={key.secret}")


@app.command("keys")
def list_keys(context: typer.Context, tenant: TenantArgument, *, as_json: AsJson = False) -> None:
    """List a tenant's keys, without their secrets."""
    with target_of(context).open_client() as client:
        keys = list(client.tenants.list_keys(tenant_name(tenant)))
    if as_json:
        print_json([to_dict(key) for key in keys])
        return
    rows = [(key.name, key.display_name, "revoked" if key.HasField("revoke_time") else "good") for key in keys]
    print_table(f"Keys of {tenant_name(tenant)}", ("key", "for", "state"), rows)


@app.command("revoke")
def revoke_key(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="tenants/TENANT/apiKeys/ID")],
    *,
    as_json: AsJson = False,
) -> None:
    """Revoke a key for ever; servers refuse it within a second."""
    with target_of(context).open_client() as client:
        revoked = client.tenants.revoke_key(key)
    if as_json:
        print_message(revoked, as_json=True)
        return
    say(f"Revoked {revoked.name}.")
