"""What the parity measurement found: as JSON for programs, and as a table of one adapter's scores on each base."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from rich.table import Table

from bench.machine import describe_machine
from bench.parity_run import OnBase
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.memory.techniques import BasePrecision

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
BASE_NAMES: Mapping[BasePrecision, str] = {
    BasePrecision.NF4: "NF4, as it was trained",
    BasePrecision.PARITY_BF16: "parity base, as it is served",
    BasePrecision.BF16: "original bf16",
}


def build_document(trained: Evaluation, found: Sequence[OnBase]) -> dict[str, object]:
    """Return the whole measurement: `trained` is what the job's worker measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "versions": {library: version(library) for library in _LIBRARIES},
        "trained": asdict(trained),
        "bases": [asdict(one) for one in found],
    }


def build_table(trained: Evaluation, found: Sequence[OnBase]) -> Table:
    """Return a line for what the worker measured and one for each base; `kept` is the share of the worker's score."""
    title = f"One FAQ adapter on three bases, on {describe_machine()}"
    table = Table("measured on", title=title, title_justify="left", caption_justify="left")
    for score in trained.scores:
        for column in (score.name, "kept"):
            table.add_column(column, justify="right")
    table.add_column("held-out loss", justify="right")
    lines = {"measured in training": trained, **{BASE_NAMES[one.precision]: one.evaluation for one in found}}
    for name, evaluation in lines.items():
        table.add_row(name, *_list_scores(evaluation, trained), f"{evaluation.adapter_loss:.3f}")
    bases = ", ".join(f"{score.name} {score.base:.3f}" for score in trained.scores)
    table.caption = f"{trained.scores[0].num_answers} questions in wordings never trained; the base alone: {bases}."
    return table


def _list_scores(evaluation: Evaluation, trained: Evaluation) -> Iterator[str]:
    for score, reference in zip(evaluation.scores, trained.scores, strict=True):
        yield f"{score.adapter:.3f}"
        yield f"{score.adapter / reference.adapter:.1%}" if reference.adapter else "-"
