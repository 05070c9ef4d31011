"""Served equals trained: one adapter on the base it learned on, on the parity base, on the original: `python -m bench.parity`.

The FAQ of the example's first company is learned against NF4 values, as QLoRA holds them, in a worker as the service runs it. Then
the adapter answers the questions of the held-out file, none of which it saw, on NF4, on the parity base that serve_svc serves, and on
the weights as they were published.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from adaptory.cli.failure import report_failure
from adaptory.core.base_model import PreparedBase, default_cache_root, find_base
from adaptory.core.errors import ServiceError
from adaptory.core.names import BotName
from adaptory.core.prompting import Message
from bench.parity_report import BASE_NAMES, build_document, build_table
from bench.parity_run import Bench, OnBase
from bench.worker_run import name_rows, require_ended_well, run_worker
from examples.demo.bots import BASE_MODEL
from examples.demo.companies import COMPANIES, Company
from trainer_svc.bots.faq import RECIPE_RULE
from trainer_svc.bots.faq_data import read_faq_lines
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import NoProblems
from trainer_svc.bots.recipe import DataSize
from trainer_svc.bots.row import HeldOut, Row, make_rows
from trainer_svc.jobs.rows import write_rows
from trainer_svc.jobs.scoring import evaluate_attempt
from trainer_svc.jobs.workspace import ExitCode, MemorySettings, WorkerSpec, Workspace
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.gate import QualityGate
from trainer_svc.memory.techniques import BasePrecision, Techniques
from trainer_svc.registry.bots import BotDraft, GenerationDefaults
from trainer_svc.worker.device import open_device, settle_process

# So much that nothing is given up for it.
_LIMIT_BYTES = 4 << 30
_LOG_WIDTH = 120


def main() -> int:
    """Measure and print; return 0, or the exit code of what failed."""
    arguments = _parse()
    # As an exception it passes the places that end the child and clear its folder.
    signal.signal(signal.SIGTERM, _end)
    try:
        base = find_base(BASE_MODEL, default_cache_root())
        with tempfile.TemporaryDirectory(prefix="adaptory-bench-") as folder:
            trained, found = _measure(base, COMPANIES[0], arguments.steps, Path(folder))
    except ServiceError as error:
        return report_failure(error, as_json=arguments.json)
    if arguments.json:
        print(json.dumps(build_document(trained, found)))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
        console.print(build_table(trained, found))
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.parity", description=__doc__)
    parser.add_argument("--steps", type=int, help="steps of training (default: the recipe's)")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser.parse_args()


def _measure(
    base: PreparedBase, company: Company, num_steps: int | None, folder: Path
) -> tuple[Evaluation, list[OnBase]]:
    """Train the company's bot; return what its worker measured, and what is measured on each base now."""
    workspace = Workspace(folder / "workspace")
    train, held_out = name_rows(workspace.folder)
    rows = list(_make_rows(company))
    recipe = RECIPE_RULE.choose(DataSize(sum(not row.is_held_out for row in rows))).fit(base.shape)
    training = replace(recipe.training, max_steps=num_steps)
    memory = MemorySettings.of_one(_LIMIT_BYTES, Techniques(BasePrecision.NF4, training.batch_rows))
    workspace.create(WorkerSpec("bench", str(base.folder), str(train), str(held_out), training, memory))
    write_rows(rows, train=train, held_out=held_out)
    result = require_ended_well(run_worker(workspace), ExitCode.SUCCEEDED)
    bot = _describe_bot(base, company)
    trained = evaluate_attempt(workspace, result, bot)
    settle_process()
    device, memory_of_device = open_device()
    return trained, list(Bench(workspace, result, bot, device).judge(BASE_NAMES, memory_of_device))


def _make_rows(company: Company) -> Iterator[Row]:
    """Yield a row of each wording to learn, and of each question of the held-out file to judge by."""
    with company.training_file.open("rb") as file:
        entries = (entry for _, entry in read_faq_lines(file, DataLimits(), NoProblems()))
        yield from make_rows(entries, HeldOut(frozenset()), system_prompt=company.system_prompt)
    for asked in company.read_questions():
        turns = (Message("user", asked.question), Message("assistant", asked.answer))
        yield Row((Message("system", company.system_prompt), *turns), is_held_out=True)


def _describe_bot(base: PreparedBase, company: Company) -> BotDraft:
    return BotDraft(
        name=BotName(company.tenant_id, "faq"),
        kind=BotKind.FAQ,
        base_model=base.name,
        display_name="",
        system_prompt=company.system_prompt,
        generation=GenerationDefaults(0, 0.0, 0.0),
        gate=QualityGate(),
    )


if __name__ == "__main__":
    sys.exit(main())
