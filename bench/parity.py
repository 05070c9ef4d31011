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
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from adaptory.cli.failure import report_failure
from adaptory.core.base_model import PreparedBase, default_cache_root, find_base
from adaptory.core.errors import ServiceError
from adaptory.core.names import BotName
from adaptory.core.prompting import Message
from bench.machine import describe_machine
from bench.parity_run import Bench, OnBase
from bench.worker_run import name_rows, require_ended_well, run_worker
from examples.demo.companies import COMPANIES, Company
from examples.demo.story import BASE_MODEL
from trainer_svc.bots.faq import choose_recipe
from trainer_svc.bots.faq_data import read_faq_lines
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import NoProblems
from trainer_svc.bots.row import HeldOut, Row, make_rows
from trainer_svc.jobs.rows import write_rows
from trainer_svc.jobs.scoring import evaluate_attempt
from trainer_svc.jobs.workspace import ExitCode, MemorySettings, TrainingSettings, WorkerSpec, Workspace
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.gate import QualityGate
from trainer_svc.memory.techniques import BasePrecision, Techniques
from trainer_svc.registry.bots import BotDraft, GenerationDefaults
from trainer_svc.worker.device import open_device, settle_process

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
_NAMES = {
    BasePrecision.NF4: "NF4, as it was trained",
    BasePrecision.PARITY_BF16: "parity base, as it is served",
    BasePrecision.BF16: "original bf16",
}
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
        print(json.dumps(_build_document(trained, found)))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
        console.print(_build_table(trained, found))
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
    training = choose_recipe(sum(not row.is_held_out for row in rows)).fit(base.max_tokens).training
    training = _cut(training, num_steps)
    memory = MemorySettings.of_one(_LIMIT_BYTES, Techniques(BasePrecision.NF4, training.batch_rows))
    workspace.create(WorkerSpec("bench", str(base.folder), str(train), str(held_out), training, memory))
    write_rows(rows, train=train, held_out=held_out)
    result = require_ended_well(run_worker(workspace), ExitCode.SUCCEEDED)
    bot = _describe_bot(base, company)
    trained = evaluate_attempt(workspace, result, bot)
    settle_process()
    device, memory_of_device = open_device()
    return trained, list(Bench(workspace, result, bot, device).judge(_NAMES, memory_of_device))


def _cut(training: TrainingSettings, num_steps: int | None) -> TrainingSettings:
    return replace(training, max_steps=num_steps)


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


def _build_document(trained: Evaluation, found: list[OnBase]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "versions": {library: version(library) for library in _LIBRARIES},
        "trained": asdict(trained),
        "bases": [asdict(one) for one in found],
    }


def _build_table(trained: Evaluation, found: list[OnBase]) -> Table:
    """Return a line for what the worker measured and one for each base; losses of score are shares of the worker's."""
    title = f"One FAQ adapter on three bases, on {describe_machine()}"
    table = Table("measured on", title=title, title_justify="left", caption_justify="left")
    for score in trained.scores:
        for column in (score.name, "kept"):
            table.add_column(column, justify="right")
    table.add_column("held-out loss", justify="right")
    lines = {"measured in training": trained, **{_NAMES[one.precision]: one.evaluation for one in found}}
    for name, evaluation in lines.items():
        cells = [
            cell
            for score, reference in zip(evaluation.scores, trained.scores, strict=True)
            for cell in (f"{score.adapter:.3f}", _tell_share(score.adapter, reference.adapter))
        ]
        table.add_row(name, *cells, f"{evaluation.adapter_loss:.3f}")
    bases = ", ".join(f"{score.name} {score.base:.3f}" for score in trained.scores)
    table.caption = f"{trained.scores[0].num_answers} questions in wordings never trained; the base alone: {bases}."
    return table


def _tell_share(value: float, reference: float) -> str:
    return f"{value / reference:.1%}" if reference else "-"


if __name__ == "__main__":
    sys.exit(main())
