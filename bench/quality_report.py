"""What the quality measurement found: as JSON for programs, and as a table for people, scores before and after."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import zip_longest

from rich.table import Table

from adaptory.cli.sizes import format_bytes
from bench.machine import describe_machine
from bench.quality_run import Outcome, Refusal
from trainer_svc.bots.kinds import BotKind

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
_ROWS_NAMES = {BotKind.FAQ: "wordings", BotKind.SUPPORT: "conversations", BotKind.CODE_COMPLETION: "files"}


def build_document(found: Sequence[Outcome | Refusal], *, settings: Mapping[str, object]) -> dict[str, object]:
    """Return the whole measurement: `files` that were trained on, `refused` those that were not."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(describe_machine()),
        "versions": {library: version(library) for library in _LIBRARIES},
        "settings": dict(settings),
        "files": [{**asdict(one), "verdict": tell_verdict(one)} for one in found if isinstance(one, Outcome)],
        "refused": [asdict(one) for one in found if isinstance(one, Refusal)],
    }


def tell_verdict(outcome: Outcome) -> str:
    """Return the state a version of this adapter would have."""
    return "REJECTED" if outcome.faults else "READY"


def build_table(found: Sequence[Outcome | Refusal]) -> Table:
    """Return a section for each file, its main score first, and below the table why adapters are rejected and files not used."""
    table = Table(title=f"Quality on {describe_machine()}", title_justify="left", caption_justify="left")
    table.add_column("file")
    table.add_column("score")
    for column in ("base", "adapter", "answers", "gate", "time", "peak"):
        table.add_column(column, justify="right")
    for one in found:
        table.add_section()
        if isinstance(one, Refusal):
            table.add_row(one.file, "not used")
            continue
        ends = (tell_verdict(one), _tell_time(one.seconds), format_bytes(one.peak_bytes))
        for place, (about, score) in enumerate(zip_longest(_tell_file(one), _list_scores(one))):
            table.add_row(about or "", *(score or ("", "", "", "")), *(ends if place == 0 else ()))
    table.caption = "\n".join(_explain(found))
    return table


def _tell_file(outcome: Outcome) -> Iterator[str]:
    """Yield what was used, a line each."""
    evaluation, what = outcome.evaluation, _ROWS_NAMES[outcome.kind]
    yield outcome.file
    yield f"{outcome.num_rows:,} of {outcome.num_file_rows:,} {what}"
    if outcome.num_left_out:
        yield f"{outcome.num_left_out:,} left out as too long"
    yield f"{evaluation.num_train_rows:,} rows learned, {evaluation.num_held_out_rows:,} held out"
    yield f"{outcome.num_steps:,} of {outcome.num_recipe_steps:,} steps"
    if 0 < outcome.best_step < outcome.num_steps:
        yield f"the adapter of step {outcome.best_step:,}"


def _list_scores(outcome: Outcome) -> Iterator[tuple[str, str, str, str]]:
    """Yield each measure with its name, base, adapter and how many answers it is the mean of; an arrow is for less is better."""
    found = outcome.evaluation
    for score in found.scores:
        name = f"{score.name} ↓" if score.is_lower_better else score.name
        yield name, f"{score.base:.3f}", f"{score.adapter:.3f}", f"{score.num_answers:,}"
    yield "held-out loss", f"{found.base_loss:.3f}", f"{found.adapter_loss:.3f}", ""
    yield "general loss", f"{found.base_general_loss:.3f}", f"{found.adapter_general_loss:.3f}", ""


def _explain(found: Sequence[Outcome | Refusal]) -> Iterator[str]:
    for one in found:
        if isinstance(one, Refusal):
            yield f"{one.file} is not used: {one.why}"
        elif one.faults:
            yield f"{one.file} is rejected: {' '.join(one.faults)}"


def _tell_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02} min"
