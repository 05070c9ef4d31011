"""`adaptory doctor`: says what is wrong with an installation, and what to do about it."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from adaptory.cli import checkup
from adaptory.cli.checkup import Finding, Verdict
from adaptory.cli.output import AsJson, print_json
from adaptory.cli.target import Target, target_of
from adaptory.core.compiler import find_compiler

_MARKS = {Verdict.GOOD: ("✓", "green"), Verdict.NOTE: ("·", "yellow"), Verdict.BROKEN: ("✗", "bold red")}


def doctor(
    context: typer.Context,
    *,
    base: Annotated[str, typer.Option(help="The base model that must be prepared.")] = "smollm2-135m-instruct",
    openai: Annotated[str, typer.Option(help="Where serve_svc speaks OpenAI's interface.")] = "127.0.0.1:50073",
    as_json: AsJson = False,
) -> None:
    """Check this installation. Exits with 1 when something is broken; what is only absent is noted."""
    versions = checkup.read_versions()
    findings = [*_examine(target_of(context), versions, base), checkup.check_openai(openai)]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], "versions": versions})
    else:
        _print(findings, versions)
    if any(finding.verdict is Verdict.BROKEN for finding in findings):
        raise typer.Exit(1)


def _examine(target: Target, versions: dict[str, str], base: str) -> list[Finding]:
    adapters = checkup.check_cpu_adapters(versions, checkup.find_vllm_plugins(), find_compiler())
    cpu = [finding for finding in (checkup.check_cpu_engine(versions), adapters) if finding]
    return [
        checkup.check_python(sys.version_info[:2]),
        checkup.check_engine(versions),
        *cpu,
        checkup.check_training(versions, has_gpu=checkup.has_nvidia_card()),
        checkup.check_base(base),
        checkup.check_service(
            "trainer_svc", target.trainer, service="adaptory.trainer.v1.TrainerService", command="adaptory trainer"
        ),
        *_examine_server(target),
    ]


def _examine_server(target: Target) -> list[Finding]:
    service = "adaptory.serve.v1.ServeService"
    server = checkup.check_service("serve_svc", target.server, service=service, command="adaptory serve")
    batches = checkup.check_batches(target) if server.verdict is Verdict.GOOD else None
    return [server, *([batches] if batches else [])]


def _print(findings: list[Finding], versions: dict[str, str]) -> None:
    table = Table.grid("mark", "check", Column(overflow="fold"), padding=(0, 2))
    for finding in findings:
        mark, style = _MARKS[finding.verdict]
        told = Text.assemble(finding.found, ("\n" + finding.way_out if finding.way_out else "", "dim"))
        table.add_row(Text(mark, style=style), Text(finding.check, style="bold"), told)
    console = Console()
    console.print(table)
    console.print(Text("  ".join(f"{name} {version}" for name, version in versions.items()), style="dim"))
