"""An adapter is read beside the steps of vLLM's worker: what `worker_extension.py` does, on a worker without a model."""

import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_svc.engine.factory import set_environment

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

    from serve_svc.engine.worker_extension import ServingWorker

# vLLM warns of what this machine lacks as it is imported.
pytestmark = pytest.mark.filterwarnings("ignore")
NAMED = (7, "tenant/bot@7", "/adapters/7")


class SlowDisk:
    """vLLM's model runner, manager and adapters in one, as far as loading meets them; a file is read when `may_read` is set."""

    def __init__(self) -> None:
        self.may_read = threading.Event()
        self.is_damaged = False
        self.registered: dict[int, str] = {}
        self.active: list[int] = []
        self.read: list[str] = []
        self.merged: list[str] = []

    @property
    def lora_manager(self) -> "SlowDisk":
        """What reads files."""
        return self

    @property
    def _adapter_manager(self) -> "SlowDisk":
        return self

    def list_loras(self) -> set[int]:
        """Return the registered ids."""
        return set(self.registered)

    def _load_adapter(self, request: "LoRARequest") -> str:
        assert self.may_read.wait(10)
        self.read.append(request.lora_path)
        if self.is_damaged:
            raise ValueError("Error while deserializing header")
        return f"weights of {request.lora_int_id}"

    def _create_merged_loras_inplace(self, adapter: str) -> None:
        self.merged.append(adapter)

    def add_adapter(self, adapter: str) -> bool:
        """Register what was read."""
        self.registered[int(adapter.rpartition(" ")[2])] = adapter
        return True

    def add_lora(self, request: "LoRARequest") -> bool:
        """Give a slot to what is registered; vLLM would read what is not, within the step."""
        assert request.lora_int_id in self.registered, "read within the step"
        self.active.append(request.lora_int_id)
        return True


@pytest.fixture
def disk() -> SlowDisk:
    """A disk that reads nothing yet."""
    return SlowDisk()


@pytest.fixture
def worker(disk: SlowDisk) -> "ServingWorker":
    """A worker with that disk."""
    set_environment()
    from serve_svc.engine.worker_extension import ServingWorker  # noqa: PLC0415 - vLLM reads the environment when imported

    worker = ServingWorker()
    worker.model_runner = disk
    return worker


def finish(worker: "ServingWorker") -> Any:
    """Poll until the adapter is loaded, and return what the worker says then."""
    while (answer := worker.finish_loading(*NAMED)) is None:
        pass
    return answer


def test_steps_go_on_while_an_adapter_is_read(worker: "ServingWorker", disk: SlowDisk) -> None:
    """Both calls return at once; the adapter has its slot only when all of it was read."""
    worker.begin_loading(*NAMED)
    early = worker.finish_loading(*NAMED), list(disk.active)
    disk.may_read.set()

    assert early == (None, [])
    assert finish(worker) is True
    assert (disk.merged, disk.active) == (["weights of 7"], [7])


def test_what_cannot_be_read_fails_the_load_and_is_read_anew_when_it_is_asked_again(
    worker: "ServingWorker", disk: SlowDisk
) -> None:
    """The error is told once, nothing is registered, and no reading stays behind."""
    disk.may_read.set()
    disk.is_damaged = True
    worker.begin_loading(*NAMED)
    with pytest.raises(ValueError, match="deserializing"):
        finish(worker)
    after_failure = set(disk.list_loras())
    disk.is_damaged = False
    worker.begin_loading(*NAMED)

    assert after_failure == set()
    assert finish(worker) is True


def test_a_known_id_is_not_read_again(worker: "ServingWorker", disk: SlowDisk) -> None:
    """As vLLM does, whose `add_lora` answers True to an id that it has."""
    disk.may_read.set()
    for _ in range(2):
        worker.begin_loading(*NAMED)
        finish(worker)

    assert disk.read == ["/adapters/7"]
    assert disk.active == [7, 7]
