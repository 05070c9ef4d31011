"""`adaptory usage`: what a tenant's versions used, by day."""

from collections.abc import Sequence
from typing import Annotated

import typer

from adaptory.cli.output import AsJson, print_json, print_table, say, to_dict
from adaptory.cli.target import target_of
from adaptory.cli.tenant import TenantArgument, tenant_name
from adaptory.core.usage import UsageCounts, parse_usage
from adaptory.registry.v1.usage_service_pb2 import Usage

_COLUMNS = ("day (UTC)", "answered by", "requests", "of them", "tokens in", "out")


def show_usage(
    context: typer.Context,
    tenant: TenantArgument,
    bot: Annotated[str, typer.Option(help="One bot: `faq` or `tenants/aurora/bots/faq`.")] = "",
    since: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="The first day, in UTC.")] = "",
    until: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="The last day, itself included.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a tenant used: requests, how many did not end well, and tokens. The operator may ask for TENANT `-`, all of them."""
    name = tenant_name(tenant)
    bot_name = bot if "/" in bot or not bot else f"{name}/bots/{bot}"
    with target_of(context).open_client() as client:
        usage = list(client.usage.list_all(name, bot=bot_name, first_day=since, last_day=until))
    if as_json:
        print_json([to_dict(record) for record in usage])
    elif usage:
        print_table(f"Usage of {name}", _COLUMNS, [*map(_make_row, usage), ("together", "", *_write(_sum(usage)))])
    else:
        say(f"Nothing was used by {name}, or no server has reported it yet.")


def _make_row(usage: Usage) -> tuple[str, ...]:
    key, counts = parse_usage(usage, field="usage")
    version = key.version
    return (key.day, f"{version.tenant}/{version.bot}/{version.number}", *_write(counts))


def _sum(usage: Sequence[Usage]) -> UsageCounts:
    total = UsageCounts()
    for record in usage:
        total += parse_usage(record, field="usage")[1]
    return total


def _write(counts: UsageCounts) -> tuple[str, ...]:
    ended = {"cancelled": counts.num_cancelled, "failed": counts.num_failed, "refused": counts.num_refused}
    badly = ", ".join(f"{count:,} {how}" for how, count in ended.items() if count)
    return (f"{counts.num_requests:,}", badly, f"{counts.num_prompt_tokens:,}", f"{counts.num_output_tokens:,}")
