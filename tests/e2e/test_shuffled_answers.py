"""An adapter trained on shuffled answers is stopped by the default gate, with the real worker on the real base."""

import json
import random
import sys
from pathlib import Path

from adaptory.core.base_model import default_cache_root
from adaptory.registry.v1 import registry_service_pb2, version_pb2
from examples.demo.companies import COMPANIES
from tests.conftest import EMBEDDED_BASE
from tests.fakes.trainer import Trainer, faq_jsonl

_DEADLINE_S = 240
_NUM_STEPS = 24


def shuffle_answers(file: Path) -> list[dict[str, str]]:
    """Return each wording of an FAQ as a question of its own, with the answer of another, drawn anew for each wording."""
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    asked = [wording for entry in entries for wording in (entry["question"], *entry["wordings"])]
    answers = [entry["answer"] for entry in entries for _ in (entry["question"], *entry["wordings"])]
    random.Random(0).shuffle(answers)
    return [{"question": question, "answer": answer} for question, answer in zip(asked, answers, strict=True)]


async def test_an_adapter_of_shuffled_answers_is_rejected(prepared_base: Path, tmp_path: Path) -> None:
    """It learns to sound like the data, which the losses like, and knows no fact it is asked for, which the gate sees."""
    overrides = {
        "cache_dir": default_cache_root(),
        "worker_command": (sys.executable, "-m", "trainer_svc.worker"),
        "base_model": EMBEDDED_BASE,
        # Libraries may load for long on a machine that tests keep busy, before the worker's first step.
        "heartbeat_timeout_seconds": _DEADLINE_S,
    }
    async with Trainer(tmp_path, **overrides) as trainer:
        await trainer.add_tenant("aurora")
        await trainer.add_bot("aurora", base_model=EMBEDDED_BASE, system_prompt=COMPANIES[0].system_prompt)
        await trainer.add_dataset("aurora", faq_jsonl(shuffle_answers(COMPANIES[0].training_file)))
        job = await trainer.submit("aurora", limit_bytes=2 << 30, max_steps=_NUM_STEPS, held_out_share=0.25)
        ended = await trainer.ended(job.name, timeout_s=_DEADLINE_S)
        request = registry_service_pb2.GetVersionRequest(name=ended.version)
        version = await trainer.registry.GetVersion(request, metadata=trainer.admin)

    assert version.state == version_pb2.Version.STATE_REJECTED
    assert "Its fact_recall is" in version.rejection
    # Losses alone would have let it through.
    assert version.evaluation.adapter_loss < version.evaluation.base_loss
