"""`adaptory tenant`: companies and their keys. For the operator."""

from typing import Annotated

import typer

from adaptory.cli.output import AsJson, print_json, print_message, print_table, say, to_dict
from adaptory.cli.target import target_of

app = typer.Typer(no_args_is_help=True, help="Companies and their keys. For the operator.")

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
