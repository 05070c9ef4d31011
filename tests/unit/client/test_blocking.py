"""The blocking client: the same promises without asyncio."""

import inspect
from collections.abc import Iterator

import pytest

from adaptory.client import AdaptoryClient, BlockingClient, RpcFailed, user
from adaptory.serve.v1.serve_service_pb2 import CompleteRequest
from adaptory.trainer.v1.training_job_pb2 import TrainingJob
from tests.fakes.services import KEY, ScriptedServices, open_in_thread

BOT = "tenants/aurora/bots/faq"


@pytest.fixture
def services() -> Iterator[ScriptedServices]:
    """Both services, scripted, on a loop in another thread."""
    with open_in_thread() as services:
        yield services


@pytest.fixture
def client(services: ScriptedServices) -> Iterator[BlockingClient]:
    """A blocking client of both."""
    with BlockingClient(KEY, trainer=services.trainer_address, server=services.server_address) as client:
        yield client


def test_calls_return_and_lists_iterate(client: BlockingClient) -> None:
    """A method returns its message and a list is a plain iterator."""
    client.tenants.create("aurora")
    assert [tenant.name for tenant in client.tenants.list_all()] == ["tenants/aurora"]


def test_watch_iterates_to_the_final_state(client: BlockingClient) -> None:
    """A job is followed to its end by a plain for loop."""
    job = client.jobs.create(TrainingJob(bot=BOT, dataset="tenants/aurora/datasets/d1"))
    assert [event.sequence for event in client.jobs.watch(job.name)][-1] == 6


def test_answer_left_early_is_cancelled(client: BlockingClient, services: ScriptedServices) -> None:
    """A caller that stops reading an answer can ask again on the same client."""
    for _ in client.chat.stream(BOT, [user("How long?")]):
        break
    assert client.chat.ask(BOT, [user("How long?")]).text == services.script.answer


def test_code_is_completed_whole_or_in_pieces(client: BlockingClient, services: ScriptedServices) -> None:
    """Both ways give the same code, and say how much of what was sent was read."""
    pieces = list(client.completion.stream(BOT, "def f():", "f()", stop_at=CompleteRequest.STOP_AT_BLOCK))
    whole = client.completion.fill(BOT, "def f():")
    assert "".join(piece.text for piece in pieces).strip() == whole.text == services.script.answer
    assert pieces[-1].context.num_trimmed_prefix_chars == whole.context.num_trimmed_prefix_chars == 1_200
    assert [(sent.suffix, sent.stop_at) for sent in services.serve.completed] == [("f()", 2), ("", 1)]


def test_completion_cut_off_is_no_completion(client: BlockingClient, services: ScriptedServices) -> None:
    """A stream that ends without its Finish raises, whatever came before."""
    services.script.finishes = False
    with pytest.raises(RpcFailed, match="ANSWER_INCOMPLETE"):
        list(client.completion.stream(BOT, "def f():"))


def test_failures_are_raised_in_the_caller(client: BlockingClient) -> None:
    """A failed call raises the same exception as in the asyncio client."""
    with pytest.raises(RpcFailed, match="NOT_FOUND"):
        client.bots.get(BOT)


def test_every_asyncio_method_has_its_twin(client: BlockingClient) -> None:
    """No public method of a group is missing from its blocking twin."""
    asynchronous = AdaptoryClient.__init__.__code__.co_names
    for name in ("tenants", "datasets", "bots", "jobs", "chat", "completion", "serving"):
        assert name in asynchronous
        twin = getattr(client, name)
        methods = [name for name, _ in inspect.getmembers(type(twin._group), inspect.isfunction) if name[0] != "_"]
        assert [method for method in methods if not hasattr(twin, method)] == []
