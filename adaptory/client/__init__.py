"""The Python client of Adaptory: `AdaptoryClient` for asyncio, `BlockingClient` for everything else."""

from adaptory.client.aio import DEFAULT_SERVER, DEFAULT_TRAINER, AdaptoryClient
from adaptory.client.blocking import BlockingClient
from adaptory.client.certainty import measure_certainty
from adaptory.client.chat import assistant, user
from adaptory.client.datasets import Upload
from adaptory.client.errors import RpcFailed
from adaptory.client.jobs import FINAL_STATES
from adaptory.client.patience import Patience

__all__ = [
    "DEFAULT_SERVER",
    "DEFAULT_TRAINER",
    "FINAL_STATES",
    "AdaptoryClient",
    "BlockingClient",
    "Patience",
    "RpcFailed",
    "Upload",
    "assistant",
    "measure_certainty",
    "user",
]
