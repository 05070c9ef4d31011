"""Where attempts are made: a folder with rows and spec for each, gone when it ends, however it ends.

Rows and staged adapters are a tenant's data and never stay behind. A worker's log holds none; the newest logs are kept for operators.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

from trainer_svc.jobs.inputs import JobInputs
from trainer_svc.jobs.job import TrainingJob
from trainer_svc.jobs.rows import RowReader, write_rows
from trainer_svc.jobs.store import AttemptName
from trainer_svc.jobs.workspace import MemorySettings, WorkerSpec, Workspace
from trainer_svc.registry.artifacts import ArtifactStore

_MAX_LOGS_KEPT = 50


class Workbench:
    """Makes and clears workspaces below one folder."""

    def __init__(self, root: Path, rows: RowReader, artifacts: ArtifactStore, *, max_adapter_rank: int) -> None:
        """Take the folder, which is made when absent, and where rows and the files of adapters to judge come from."""
        self._spaces = root / "workspaces"
        self._logs = root / "logs"
        self._rows = rows
        self._artifacts = artifacts
        self._max_adapter_rank = max_adapter_rank
        self._spaces.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(exist_ok=True)

    @asynccontextmanager
    async def lay_out(self, job: TrainingJob, inputs: JobInputs) -> AsyncGenerator[Workspace, None]:
        """Make an attempt's workspace with its rows; cleared when the block is left. Raises Corrupted when the data changed."""
        workspace = Workspace(self._spaces / str(AttemptName(job.name, job.attempt)))
        try:
            await asyncio.to_thread(self._fill, workspace, job, inputs)
            yield workspace
        finally:
            await asyncio.to_thread(self._clear, workspace)

    def remove_leftovers(self) -> None:
        """Clear what a killed service left; call it before any attempt is made."""
        for folder in self._spaces.iterdir():
            self._clear(Workspace(folder))

    def _fill(self, workspace: Workspace, job: TrainingJob, inputs: JobInputs) -> None:
        settings, plan = job.draft.settings, job.draft.plan
        train, held_out = workspace.folder / "train.jsonl", workspace.folder / "held_out.jsonl"
        memory = MemorySettings(plan.limit_bytes, plan.rungs)
        workspace.create(
            WorkerSpec(
                job=str(job.name),
                base_dir=str(inputs.base.folder),
                train_rows=str(train),
                held_out_rows=str(held_out),
                training=settings.training,
                memory=memory,
                max_adapter_rank=self._max_adapter_rank,
                given_adapter=str(workspace.given_dir) if job.draft.judged_files else "",
                max_general_rise=inputs.bot.draft.gate.effective_max_general_loss_rise,
            )
        )
        self._lay_out_given(workspace.given_dir, job.draft.judged_files or {})
        write_rows(self._rows.read(inputs.rows_for(settings)), train=train, held_out=held_out)

    def _lay_out_given(self, folder: Path, files: Mapping[str, str]) -> None:
        for name, digest in files.items():
            folder.mkdir(exist_ok=True)
            with closing(self._artifacts.open(digest)) as blob, (folder / name).open("xb") as file:
                shutil.copyfileobj(blob, file)

    def _clear(self, workspace: Workspace) -> None:
        if workspace.log_file.exists():
            workspace.log_file.replace(self._logs / f"{workspace.folder.name}.log")
        shutil.rmtree(workspace.folder, ignore_errors=True)
        newest_first = sorted(self._logs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest_first[_MAX_LOGS_KEPT:]:
            path.unlink()
