"""Runs the command line: `adaptory ...` or `python -m adaptory.cli ...`."""

import sys
from collections.abc import Sequence

import typer

from adaptory.cli import (
    bench,
    bot,
    chat,
    complete,
    dataset,
    doctor,
    job,
    models,
    plan,
    server,
    service,
    tenant,
    train,
    usage,
    version,
)
from adaptory.cli.failure import report_failure
from adaptory.cli.target import read_target
from adaptory.client import RpcFailed
from adaptory.core.errors import ServiceError


def build_app() -> typer.Typer:
    """Return the command with all its parts."""
    app = typer.Typer(
        no_args_is_help=True, pretty_exceptions_enable=False, help="Train adapters per tenant and serve them hot."
    )
    app.callback()(read_target)
    app.command("trainer")(service.run_trainer)
    app.command("serve")(service.run_server)
    app.add_typer(models.app, name="models")
    app.add_typer(tenant.app, name="tenant")
    app.command("usage")(usage.show_usage)
    app.add_typer(dataset.app, name="dataset")
    app.add_typer(bot.app, name="bot")
    app.add_typer(version.app, name="version")
    app.command("plan")(plan.plan)
    app.command("train")(train.train)
    app.add_typer(job.app, name="job")
    app.command("chat")(chat.chat)
    app.command("complete")(complete.complete)
    app.add_typer(server.app, name="server")
    app.command("doctor")(doctor.doctor)
    app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench.bench)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0, or 2 bad input, 3 does not fit, 4 not found, 5 unavailable, 1 anything else."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        build_app()(args=list(arguments), prog_name="adaptory")
    except (RpcFailed, ServiceError) as failure:
        sys.exit(report_failure(failure, as_json="--json" in arguments))


if __name__ == "__main__":
    main()
