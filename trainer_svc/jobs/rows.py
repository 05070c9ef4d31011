"""The rows of a job: read from its dataset's blob, in bounded memory, the same ones every time."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from trainer_svc.bots.faq import Row, choose_held_out, make_rows
from trainer_svc.bots.faq_data import FaqLimits, read_entries
from trainer_svc.bots.refusals import RefusalLesson, teach_refusal
from trainer_svc.jobs.job import JobSettings
from trainer_svc.registry.artifacts import ArtifactStore


@dataclass(frozen=True, slots=True)
class RowSource:
    """Which data, and what besides the data decides its rows."""

    dataset_digest: str
    system_prompt: str
    settings: JobSettings
    refusal: RefusalLesson = field(default_factory=RefusalLesson)


class RowReader:
    """Makes rows of datasets. Blocks: call it in a thread."""

    def __init__(self, artifacts: ArtifactStore, limits: FaqLimits) -> None:
        self._artifacts = artifacts
        self._limits = limits

    def read(self, source: RowSource) -> Iterator[Row]:
        """Yield the rows of a READY dataset, and those of the bot's refusal. Raises Corrupted when its bytes changed."""
        rows, seed = self._read_data(source), source.settings.training.seed
        return teach_refusal(rows, source.refusal, system_prompt=source.system_prompt, seed=seed)

    def _read_data(self, source: RowSource) -> Iterator[Row]:
        # Twice over the data: who is held out depends on how many entries there are.
        with closing(self._artifacts.open(source.dataset_digest)) as file:
            num_wordings = [len(entry.questions) for entry in read_entries(file, self._limits)]
        held_out = choose_held_out(
            num_wordings, share=source.settings.held_out_share, seed=source.settings.training.seed
        )
        with closing(self._artifacts.open(source.dataset_digest)) as file:
            yield from make_rows(read_entries(file, self._limits), held_out, system_prompt=source.system_prompt)


def write_rows(rows: Iterable[Row], *, train: Path, held_out: Path) -> None:
    """Write rows as the worker reads them, one `{"messages": [...]}` a line, into the two files."""
    with ExitStack() as files:
        train_file = files.enter_context(train.open("x", encoding="utf-8"))
        held_out_file = files.enter_context(held_out.open("x", encoding="utf-8"))
        for row in rows:
            line = json.dumps({"messages": [asdict(message) for message in row.messages]}, ensure_ascii=False)
            (held_out_file if row.is_held_out else train_file).write(line + "\n")
