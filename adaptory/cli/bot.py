"""`adaptory bot`: bots, their versions, and which version answers."""

from pathlib import Path
from typing import Annotated

import typer

from adaptory.cli.bot_file import read_bot_file, read_schema_file
from adaptory.cli.kinds import Kind, kind_name
from adaptory.cli.output import AsJson, print_json, print_message, print_table, say, to_dict
from adaptory.cli.target import target_of
from adaptory.cli.tenant import TenantArgument, tenant_name
from adaptory.core.errors import InvalidRequest
from adaptory.core.names import BotName
from adaptory.registry.v1.bot_pb2 import Bot
from adaptory.registry.v1.version_pb2 import Version

app = typer.Typer(no_args_is_help=True, help="Bots, their versions, and which version answers.")

BotArgument = Annotated[str, typer.Argument(metavar="BOT", help="tenants/TENANT/bots/BOT")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="tenants/TENANT/bots/BOT/versions/N")]


@app.command("create")
def create(  # noqa: PLR0913 - each is an option of the command line
    context: typer.Context,
    bot: BotArgument,
    kind: Annotated[Kind, typer.Option(help="What the bot does.")] = Kind.FAQ,
    base: Annotated[
        str, typer.Option(help="The base model; `adaptory models list` shows them.")
    ] = "smollm2-135m-instruct",
    system_prompt: Annotated[str, typer.Option(help="What the bot is told before every conversation.")] = "",
    display_name: Annotated[str, typer.Option(help="What people call it.")] = "",
    refusal: Annotated[
        str, typer.Option(metavar="TEXT", help="What an FAQ bot is taught to say where its data has no answer.")
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE.toml",
            help="Style rules, gate, answer_schema and more, in the contract's words; options go before it.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create a bot. It answers nobody until a version is trained and promoted; its versions/0 is the base alone."""
    parsed = BotName.parse(bot, field="BOT")
    wanted = read_bot_file(file) if file else Bot()
    wanted.MergeFrom(
        Bot(
            kind=kind.to_proto(),
            base_model=base,
            system_prompt=system_prompt,
            display_name=display_name,
            refusal_text=refusal,
        )
    )
    with target_of(context).open_client() as client:
        created = client.bots.create(f"tenants/{parsed.tenant}", parsed.bot, wanted)
    if as_json:
        print_message(created, as_json=True)
        return
    say(f"Created {created.name}. Next: `adaptory train --bot {created.name} --data FILE --promote`.")


@app.command("list")
def list_all(context: typer.Context, tenant: TenantArgument, *, as_json: AsJson = False) -> None:
    """List a tenant's bots."""
    with target_of(context).open_client() as client:
        bots = list(client.bots.list_all(tenant_name(tenant)))
    if as_json:
        print_json([to_dict(bot) for bot in bots])
        return
    rows = [(bot.name, kind_name(bot.kind), bot.base_model, _tell_routes(bot)) for bot in bots]
    print_table(f"Bots of {tenant_name(tenant)}", ("bot", "kind", "base", "answers"), rows)


@app.command("show")
def show(context: typer.Context, bot: BotArgument, *, as_json: AsJson = False) -> None:
    """Show a bot and its routes."""
    with target_of(context).open_client() as client:
        print_message(client.bots.get(bot), as_json=as_json)


@app.command("schema")
def set_schema(
    context: typer.Context,
    bot: BotArgument,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE.json", help="The JSON schema of answers.")
    ] = None,
    *,
    is_free: Annotated[bool, typer.Option("--none", help="Let answers be free again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pin the JSON schema that every answer of a bot conforms to, or free its answers. Takes the operator's key."""
    if (file is None) is not is_free:
        raise InvalidRequest.of_field("--file", "or --none is needed, and not both")
    schema = read_schema_file(file, option="--file") if file else ""
    with target_of(context).open_client() as client:
        pinned = client.bots.set_answer_schema(bot, schema)
    if as_json:
        print_message(pinned, as_json=True)
        return
    say(f"Every answer of {pinned.name} conforms to the schema." if schema else f"{pinned.name} answers freely.")


@app.command("versions")
def list_versions(context: typer.Context, bot: BotArgument, *, as_json: AsJson = False) -> None:
    """List a bot's versions, newest first, with what each scored on rows its training never saw."""
    with target_of(context).open_client() as client:
        versions = list(client.bots.list_versions(bot))
    if as_json:
        print_json([to_dict(version) for version in versions])
        return
    rows = [_describe(version) for version in versions]
    print_table(f"Versions of {bot}", ("version", "state", "base loss", "adapter loss", "rank", "digest"), rows)


@app.command("promote")
def promote(
    context: typer.Context,
    version: VersionArgument,
    override_gate: Annotated[
        str,
        typer.Option(metavar="REASON", help="Why a version the gate rejected is to answer; kept with the version."),
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Make a version the one that answers. Servers load it without a restart."""
    with target_of(context).open_client() as client:
        bot = client.bots.promote(version, override_gate_reason=override_gate)
    if as_json:
        print_message(bot, as_json=True)
        return
    before = f"; {bot.routes.previous} answered before" if bot.routes.previous else ""
    say(f"{bot.routes.production} answers from now on{before}.")


@app.command("canary")
def set_canary(
    context: typer.Context,
    version: VersionArgument,
    percent: Annotated[int, typer.Option(help="Of a hundred conversations, how many it answers; 0 ends the canary.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Let a version answer some conversations, and production the others. Servers load it without a restart."""
    with target_of(context).open_client() as client:
        bot = client.bots.set_canary(version, percent)
    if as_json:
        print_message(bot, as_json=True)
        return
    if bot.routes.canary:
        say(f"{version} answers {percent} % of the conversations, {bot.routes.production} the others.")
    else:
        say(f"{version} is no canary; {bot.routes.production} answers all conversations.")


@app.command("shadow")
def set_shadow(
    context: typer.Context,
    version: VersionArgument,
    percent: Annotated[
        int, typer.Option(help="In how many of a hundred conversations it is asked, too; 0 ends the shadow.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Ask a version beside production, and compare. Nobody sees its answers; servers' metrics tell how alike they are."""
    with target_of(context).open_client() as client:
        bot = client.bots.set_shadow(version, percent)
    if as_json:
        print_message(bot, as_json=True)
        return
    if bot.routes.shadow:
        say(f"{version} is asked in {percent} % of the conversations, and {bot.routes.production} answers them.")
    else:
        say(f"{version} is no shadow.")


@app.command("rollback")
def roll_back(context: typer.Context, bot: BotArgument, *, as_json: AsJson = False) -> None:
    """Make the version that answered before answer again."""
    with target_of(context).open_client() as client:
        routed = client.bots.roll_back(bot)
    if as_json:
        print_message(routed, as_json=True)
        return
    say(f"{routed.routes.production} answers again.")


@app.command("retire")
def retire(context: typer.Context, version: VersionArgument, *, as_json: AsJson = False) -> None:
    """Take a version that does not answer out of use for ever. One that was rolled back from is nothing to return to any more."""
    with target_of(context).open_client() as client:
        retired = client.bots.retire(version)
    if as_json:
        print_message(retired, as_json=True)
        return
    say(f"{retired.name} is retired.")


def _tell_routes(bot: Bot) -> str:
    routes = bot.routes
    told = [routes.production or "none yet"]
    if routes.canary:
        told.append(f"{routes.canary_percent} % {routes.canary}")
    if routes.shadow:
        told.append(f"shadow of {routes.shadow_percent} % {routes.shadow}")
    return "; ".join(told)


def _describe(version: Version) -> tuple[str, ...]:
    state = Version.State.Name(version.state).removeprefix("STATE_").lower()
    scores = version.evaluation
    return (
        version.name,
        f"{state}: {version.rejection}" if version.rejection else state,
        f"{scores.base_loss:.3f}" if version.HasField("evaluation") else "-",
        f"{scores.adapter_loss:.3f}" if version.HasField("evaluation") else "-",
        str(version.rank),
        version.digest[:12],
    )
