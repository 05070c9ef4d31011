"""Our training step against TRL's SFTTrainer: `python -m bench.train [--json] [--steps N] [--base NAME_OR_DIR]`.

Both train the same rows in the same batches and order, from the same adapter weights, with the same schedule and optimizer, each in
a process of its own: our worker as the service runs it, and TRL's QLoRA at its best settings; `bench.trl_peer` says which they are.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from adaptory.cli.failure import report_failure
from adaptory.core.base_model import MANIFEST_FILE, PreparedBase, default_cache_root, find_base
from adaptory.core.errors import ServiceError
from adaptory.core.prompting import RenderedRow
from bench.training_data import make_faq_rows, make_unshared_rows
from bench.training_report import Comparison, build_document, build_table
from bench.training_side import run_side
from examples.demo.bots import BASE_MODEL
from examples.demo.companies import COMPANIES
from trainer_svc.bots.faq import RECIPE
from trainer_svc.bots.row import Row
from trainer_svc.bots.row_rendering import RowRenderer
from trainer_svc.jobs.rows import write_rows
from trainer_svc.jobs.workspace import MemorySettings, TrainingSettings, WorkerSpec
from trainer_svc.memory.batches import count_steps
from trainer_svc.memory.techniques import BasePrecision, Techniques
from trainer_svc.worker.rows import load_rows, order_batches

_OURS, _TRL = "trainer_svc.worker", "bench.trl_peer"
_DEFAULT_STEPS = 6
# A log has no width of its own; the table wants some.
_LOG_WIDTH = 120
# So much that nothing is given up for it: both sides show what they take by themselves.
_LIMIT_BYTES = 16 << 30


def main() -> int:
    """Measure and print; return 0, or the exit code of what failed."""
    arguments = _parse()
    # As an exception it passes the places that end the children and clear their folders.
    signal.signal(signal.SIGTERM, _end)
    try:
        base = _open_base(arguments.base)
        precision = BasePrecision(arguments.precision)
        unshared = _compare(base, make_unshared_rows(), arguments.steps, precision)
        faq = _compare(base, make_faq_rows(COMPANIES[0]), arguments.steps, precision)
    except ServiceError as error:
        return report_failure(error, as_json=arguments.json)
    if arguments.json:
        settings = {"base": base.name, "steps": arguments.steps, "batch_rows": RECIPE.batch_rows, "rank": RECIPE.rank}
        print(json.dumps(build_document(unshared, faq, settings=settings)))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
        console.print(build_table(unshared, faq))
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__)
    parser.add_argument("--steps", type=int, default=_DEFAULT_STEPS, help="steps of each run (default 6, at least 2)")
    parser.add_argument("--base", default=BASE_MODEL, help=f"a prepared base, by name or folder (default {BASE_MODEL})")
    parser.add_argument(
        "--precision",
        choices=[BasePrecision.PARITY_BF16.value, BasePrecision.NF4.value],
        default=BasePrecision.PARITY_BF16.value,
        help="how our worker holds the base; TRL's is NF4 (default parity_bf16, the planner's choice where it fits)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    arguments = parser.parse_args()
    if arguments.steps < 2:  # noqa: PLR2004 - the first step warms up and is not counted
        parser.error("--steps must be at least 2")
    return arguments


def _open_base(name_or_folder: str) -> PreparedBase:
    folder = Path(name_or_folder)
    if (folder / MANIFEST_FILE).is_file():
        return PreparedBase.open(folder)
    return find_base(name_or_folder, default_cache_root())


def _compare(base: PreparedBase, rows: Iterable[Row], num_steps: int, precision: BasePrecision) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="adaptory-bench-") as name:
        folder = Path(name)
        train, held_out = folder / "train.jsonl", folder / "held_out.jsonl"
        write_rows(rows, train=train, held_out=held_out)
        rendered = _render(base, train)
        spec = WorkerSpec(
            job="bench",
            base_dir=str(base.folder),
            train_rows=str(train),
            held_out_rows=str(held_out),
            training=_settle(len(rendered), num_steps),
            memory=_plan(precision),
        )
        batches = list(order_batches(rendered, spec.training))
        peer_spec = replace(spec, memory=_plan(BasePrecision.NF4))
        # Ours, TRL, TRL, ours: a machine that becomes slower meanwhile slows both alike.
        ours = [run_side(_OURS, spec, batches, folder / "ours")]
        trl = [run_side(_TRL, peer_spec, batches, folder / place) for place in ("trl", "trl-again")]
        ours += [run_side(_OURS, spec, batches, folder / "ours-again")]
    return Comparison.from_rounds(list(zip(ours, trl, strict=True)))


def _render(base: PreparedBase, file: Path) -> tuple[RenderedRow, ...]:
    renderer = RowRenderer.of(base)
    return load_rows(file, renderer, RECIPE.max_row_tokens).rows


def _settle(num_rows: int, num_steps: int) -> TrainingSettings:
    batches_per_epoch = count_steps(num_rows, replace(RECIPE, epochs=1, max_steps=None))
    return replace(RECIPE, epochs=-(-num_steps // batches_per_epoch), max_steps=num_steps)


def _plan(precision: BasePrecision) -> MemorySettings:
    return MemorySettings.of_one(_LIMIT_BYTES, Techniques(precision, RECIPE.batch_rows))


if __name__ == "__main__":
    sys.exit(main())
