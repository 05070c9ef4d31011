"""Code bots from an upload to a version, through the trainer's own door; and that what is trained is what will be served."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import grpc
import pytest

from adaptory.core.fim import FimRenderer, FimRow, digest_form
from adaptory.core.fim_families import Order
from adaptory.core.prompting import Message
from adaptory.registry.v1 import bot_pb2, dataset_pb2, registry_service_pb2
from adaptory.registry.v1.version_pb2 import Version
from adaptory.trainer.v1 import trainer_service_pb2, training_job_pb2
from tests.fakes.base import write_base
from tests.fakes.trainer import Trainer, faq_jsonl, fields_of
from trainer_svc.bots.row import CodeRow, Row
from trainer_svc.bots.row_rendering import RowRenderer, read_row, write_row
from trainer_svc.jobs.row_sizes import measure_rows
from trainer_svc.jobs.rows import write_rows
from trainer_svc.judging.sandbox import Sandbox, SandboxLimits, SandboxUnavailable

FILES = {
    f"src/door_{word}.py": f'"""The {word} door."""\n\n\ndef open_{word}(key: int) -> bool:\n    return key == {number * 37}\n'
    * 3
    for number, word in enumerate(("red", "green", "blue", "white", "black", "brown"))
}
JSONL = "".join(json.dumps({"path": path, "content": text}) + "\n" for path, text in FILES.items()).encode()


def make_archive() -> bytes:
    """Return the files as a packed tree, with one that git ignores."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in {**FILES, "out/made.py": "x = 1\n", ".gitignore": "out/\n"}.items():
            info = tarfile.TarInfo(path)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "layout", "num_left_out"),
    [
        (JSONL, dataset_pb2.DATASET_FORMAT_CODE_JSONL, {}),
        (make_archive(), dataset_pb2.DATASET_FORMAT_CODE_TAR, {"FILE_IGNORED": 1}),
    ],
)
async def test_a_code_bot_is_trained_from_files(
    trainer: Trainer, data: bytes, layout: dataset_pb2.DatasetFormat, num_left_out: dict[str, int]
) -> None:
    """Files are uploaded and judged, rows are cut from them, and the job ends with a version of the bot."""
    await trainer.add_tenant("aurora")
    bot = await trainer.add_bot("aurora", "code", kind=bot_pb2.BOT_KIND_CODE_COMPLETION, system_prompt="")
    asked = dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_CODE_COMPLETION, format=layout)
    name = await trainer.begin_dataset("aurora", asked)
    await trainer.append(name, data)
    dataset = await trainer.finalize(name)

    job = training_job_pb2.TrainingJob(bot=bot, dataset=name, memory_limit_bytes=1 << 30)
    request = trainer_service_pb2.CreateTrainingJobRequest(parent="tenants/aurora", training_job=job)
    created = await trainer.jobs.CreateTrainingJob(request, metadata=trainer.admin)

    assert dataset.report.num_entries >= len(FILES)
    assert {reason: dataset.report.num_by_reason[reason] for reason in num_left_out} == num_left_out
    assert (created.settings.max_row_tokens, created.settings.held_out_share) == (256, pytest.approx(0.1))
    ended = await trainer.ended(created.name)
    version = await trainer.registry.GetVersion(
        registry_service_pb2.GetVersionRequest(name=ended.version), metadata=trainer.admin
    )
    assert ended.state == training_job_pb2.TrainingJob.STATE_SUCCEEDED
    assert version.lineage.template_digest == digest_form("", "<|im_end|>")


TASKS = [
    {
        "prompt": f'def add_{number}(value):\n    """Return value plus {number * 37}."""\n',
        "canonical_solution": f"    return value + {number * 37}\n",
        "test": f"def check(candidate):\n    assert candidate(2) == {number * 37 + 2}\n",
        "entry_point": f"add_{number}",
    }
    for number in range(1, 13)
]


async def train_on_tasks(trainer: Trainer, tasks: list[dict[str, str]]) -> tuple[training_job_pb2.TrainingJob, Version]:
    """Train a code bot on tasks, half of them held out; return the job and its version."""
    await trainer.add_tenant("aurora")
    await trainer.add_bot("aurora", "code", kind=bot_pb2.BOT_KIND_CODE_COMPLETION, system_prompt="")
    asked = dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_CODE_COMPLETION, format=dataset_pb2.DATASET_FORMAT_CODE_JSONL)
    await trainer.add_dataset("aurora", faq_jsonl(tasks), asked)
    job = await trainer.ended((await trainer.submit("aurora", held_out_share=0.5)).name, timeout_s=120)
    request = registry_service_pb2.GetVersionRequest(name=job.version)
    return job, await trainer.registry.GetVersion(request, metadata=trainer.admin)


async def test_held_out_tasks_are_judged_by_running_their_tests(trainer: Trainer) -> None:
    """Right answers pass and wrong ones do not, in the real sandbox; tasks are told in the report and asked whole."""
    try:
        Sandbox(SandboxLimits())
    except SandboxUnavailable as error:
        pytest.skip(error.message)
    job, version = await train_on_tasks(trainer, [*TASKS[:-1], {**TASKS[-1], "test": "raise ValueError"}])
    datasets = await trainer.registry.ListDatasets(
        registry_service_pb2.ListDatasetsRequest(parent="tenants/aurora"), metadata=trainer.admin
    )

    passed = next(score for score in version.evaluation.scores if score.name == "pass_at_1")
    assert (passed.base, passed.adapter) == (0, 1)
    assert 5 <= passed.num_answers <= 6
    assert datasets.datasets[0].report.num_tests == len(TASKS)
    assert job.settings.max_row_tokens == 256


async def test_without_a_sandbox_the_version_and_the_job_say_why_there_is_no_score(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No program is run and no number is made up; everything else is judged."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    job, version = await train_on_tasks(trainer, TASKS)
    messages = [event.message async for event in trainer.watch(job.name) if event.WhichOneof("event") == "message"]

    assert [score.name for score in version.evaluation.scores] == ["edit_similarity", "exact_match", "parses"]
    assert "pass_at_1 is missing for 6 held-out tests: bubblewrap is not installed" in version.evaluation.notes[0]
    assert version.evaluation.notes[0] in messages[-1]


async def test_a_long_task_makes_room_and_one_that_is_longer_still_is_cut_as_a_file(trainer: Trainer) -> None:
    """The longest row follows from the tasks; what no row holds is learned in pieces and its test not run."""
    lengthy = [
        {**task, "prompt": task["prompt"] + f"    # {task['entry_point']} {'x' * length}\n"}
        for task, length in zip(TASKS, [300] * 6 + [1_500] * 6, strict=True)
    ]
    job, version = await train_on_tasks(trainer, lengthy)

    assert job.settings.max_row_tokens == 512 + 32
    assert version.evaluation.num_train_rows + version.evaluation.num_held_out_rows > len(TASKS)


async def test_rows_without_room_for_code_are_refused(trainer: Trainer) -> None:
    """A longest row that could hold no middle names the setting."""
    await trainer.add_tenant("aurora")
    bot = await trainer.add_bot("aurora", "code", kind=bot_pb2.BOT_KIND_CODE_COMPLETION, system_prompt="")
    asked = dataset_pb2.Dataset(kind=bot_pb2.BOT_KIND_CODE_COMPLETION, format=dataset_pb2.DATASET_FORMAT_CODE_JSONL)
    dataset = await trainer.add_dataset("aurora", JSONL, asked)
    job = training_job_pb2.TrainingJob(bot=bot, dataset=dataset, memory_limit_bytes=1 << 30)
    job.settings.max_row_tokens = 40

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await trainer.jobs.PlanTrainingJob(
            trainer_service_pb2.PlanTrainingJobRequest(parent="tenants/aurora", training_job=job),
            metadata=trainer.admin,
        )

    assert fields_of(refused.value) == ["training_job.settings.max_row_tokens"]


ROWS = [
    CodeRow(FimRow("def f():\n    ", "return '<|im_end|>'", "\n", Order.SPM), is_held_out=False),
    CodeRow(FimRow("naïve = ", "1", "\r\n\u2028x", Order.PSM), is_held_out=True, test="assert naïve"),
    Row((Message("user", "When?"), Message("assistant", "At noon.")), is_held_out=False),
]


def test_the_worker_renders_what_was_cut(tmp_path: Path) -> None:
    """A row that goes through the file is rendered as it was; code begins with the prompt that serving makes."""
    base = write_base(tmp_path)
    renderer, serving = RowRenderer.of(base), FimRenderer.from_files(base.tokenizer_file, base.fim, base.end_of_turn)
    write_rows(ROWS, train=tmp_path / "train", held_out=tmp_path / "held_out")

    first, last = (read_row(line) for line in (tmp_path / "train").read_text().split("\n") if line)
    [held_out] = (read_row(line) for line in (tmp_path / "held_out").read_text().split("\n") if line)

    assert [first, held_out, last] == ROWS
    lesson, asked = renderer.render(first), renderer.render(held_out)
    prompt, judged = (
        serving.render_prompt("def f():\n    ", "\n"),
        serving.render_prompt("naïve = ", "\r\n\u2028x", Order.PSM),
    )
    assert lesson.ids[: len(prompt)] == prompt
    assert any(lesson.learned[: len(prompt)])
    assert asked.learned == (False,) * len(judged) + (True,) * (len(asked.ids) - len(judged))


def test_code_is_measured_as_it_is_rendered(tmp_path: Path) -> None:
    """What is planned with is the lengths of the rows the worker will read; the ending token is no input."""
    base = write_base(tmp_path)
    renderer = RowRenderer.of(base)

    sizes = measure_rows(base, ROWS[:2])

    assert sizes.tokens == tuple(len(renderer.render(row).ids) for row in ROWS[:2])
    assert sizes.tail_tokens == 1


def test_a_row_is_one_line() -> None:
    """Line breaks of code do not break the file of rows."""
    assert all("\n" not in write_row(row) for row in ROWS)
