"""A support bot from conversations to a version, with the real worker on the real base."""

import sys
from pathlib import Path

from adaptory.core.base_model import default_cache_root
from adaptory.registry.v1 import bot_pb2, registry_service_pb2, version_pb2
from tests.conftest import EMBEDDED_BASE
from tests.fakes.trainer import SUPPORT_LINES, Trainer, faq_jsonl, support_dataset

_DEADLINE_S = 240


async def test_a_support_bot_learns_the_tone_of_its_desk(prepared_base: Path, tmp_path: Path) -> None:
    """After a few steps the replies of a conversation that was never trained are likelier than to the base."""
    overrides = {
        "cache_dir": default_cache_root(),
        "worker_command": (sys.executable, "-m", "trainer_svc.worker"),
        "base_model": EMBEDDED_BASE,
    }
    async with Trainer(tmp_path, **overrides) as trainer:
        await trainer.add_tenant("aurora")
        await trainer.add_bot("aurora", "desk", kind=bot_pb2.BOT_KIND_SUPPORT, base_model=EMBEDDED_BASE)
        await trainer.add_dataset("aurora", faq_jsonl(SUPPORT_LINES), support_dataset())
        job = await trainer.submit("aurora", limit_bytes=2 << 30, max_steps=6)
        ended = await trainer.ended(job.name, timeout_s=_DEADLINE_S)
        request = registry_service_pb2.GetVersionRequest(name=ended.version)
        version = await trainer.registry.GetVersion(request, metadata=trainer.admin)

    assert (version.state, version.evaluation.num_held_out_rows) == (version_pb2.Version.STATE_READY, 1)
    assert version.evaluation.adapter_loss < 0.7 * version.evaluation.base_loss
