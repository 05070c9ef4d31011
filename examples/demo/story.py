"""The demo from beginning to end. Every call is one a customer's or an operator's program would make."""

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

from adaptory.cli.sizes import format_bytes
from adaptory.cli.training_view import describe_peak, open_view
from adaptory.client import AdaptoryClient, RpcFailed, Upload
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ, Bot, QualityGate
from adaptory.registry.v1.dataset_pb2 import DATASET_FORMAT_FAQ_JSONL, Dataset
from adaptory.registry.v1.version_pb2 import Version
from adaptory.trainer.v1.training_job_pb2 import TrainingJob, TrainingSettings
from examples.demo import quiz
from examples.demo.companies import COMPANIES, Company, Question
from examples.demo.hot_load import time_first_token, time_hot_load
from examples.demo.metrics import scrape, select
from examples.demo.narrator import Narrator
from examples.demo.quiz import Answer
from examples.demo.report import BotReport, DemoReport, make_samples
from examples.demo.services import Services, run_services

BASE_MODEL = "smollm2-135m-instruct"
_SHOWN_METRICS = {
    "trainer": ("adaptory_trainer_jobs_ended_total",),
    "server": ("adaptory_serve_requests_total", "adaptory_serve_tokens_total", "adaptory_serve_adapter_loads_total"),
}


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """`max_steps` cuts training short, for a look at the flow rather than at the result."""

    memory_limit_bytes: int
    max_steps: int | None
    state_dir: Path
    setup_seconds: float


@dataclass(frozen=True, slots=True)
class _Trained:
    job: TrainingJob
    version: Version
    hot_load_s: float
    first_token_s: float


async def tell_story(settings: DemoSettings, narrator: Narrator) -> DemoReport:
    """Run the demo. Raises RpcFailed, ServiceEnded or OSError when a part of it cannot be done."""
    questions = {company: company.read_questions() for company in COMPANIES}
    shutil.rmtree(settings.state_dir, ignore_errors=True)
    async with AsyncExitStack() as stack:
        with narrator.wait("Starting trainer_svc and serve_svc (vLLM), each a process of its own"):
            services = await stack.enter_async_context(run_services(settings.state_dir))
        operator = await stack.enter_async_context(services.open_client(services.admin_key))
        clients = {}
        for company in COMPANIES:
            key = await _create_tenant(operator, company, settings)
            clients[company] = await stack.enter_async_context(services.open_client(key))
            narrator.add(f"{company.tenant} has a key of its own and the bot {company.bot}, on {BASE_MODEL}")
        before = await _ask_everybody(
            "Asking the base what no one has taught it yet", clients, questions, narrator, version=0
        )
        trained = {company: await _train(clients[company], company, settings, narrator) for company in COMPANIES}
        after = await _ask_everybody(
            "Asking both bots at once, in wordings they never saw", clients, questions, narrator
        )
        samples = await _look_at_metrics(services, narrator)
        narrator.tell("Stopping both services")
    bots = tuple(
        _report_bot(company, settings, trained[company], questions[company], before[company], after[company])
        for company in COMPANIES
    )
    return DemoReport(settings.setup_seconds, narrator.seconds, bots, tuple(_find_leaks(questions, after)), samples)


async def _create_tenant(operator: AdaptoryClient, company: Company, settings: DemoSettings) -> str:
    await operator.tenants.create(company.tenant_id, display_name=company.display_name)
    key = await operator.tenants.create_key(company.tenant, display_name="demo")
    # Cut short, training teaches nothing the gate would let pass; the flow is to be seen all the same.
    gate = QualityGate(min_gain=-1) if settings.max_steps else QualityGate()
    bot = Bot(kind=BOT_KIND_FAQ, base_model=BASE_MODEL, system_prompt=company.system_prompt, quality_gate=gate)
    await operator.bots.create(company.tenant, "faq", bot)
    return key.secret


async def _ask_everybody(
    sentence: str,
    clients: Mapping[Company, AdaptoryClient],
    questions: Mapping[Company, list[Question]],
    narrator: Narrator,
    *,
    version: int | None = None,
) -> dict[Company, list[Answer]]:
    suffix = "" if version is None else f"/versions/{version}"
    with narrator.count(sentence, sum(len(asked) for asked in questions.values())) as on_answer:
        answers = await asyncio.gather(
            *(
                quiz.ask_all(client, company.bot + suffix, questions[company], on_answer)
                for company, client in clients.items()
            )
        )
    told = dict(zip(clients, answers, strict=True))
    for company, given in told.items():
        narrator.add(f"{company.display_name}: {quiz.measure_recall(questions[company], given):.0%} of its facts")
    return told


async def _train(client: AdaptoryClient, company: Company, settings: DemoSettings, narrator: Narrator) -> _Trained:
    limit_bytes = settings.memory_limit_bytes
    narrator.tell(f"Training the bot of {company.display_name} under {format_bytes(limit_bytes)}")
    dataset = await client.datasets.upload(
        company.tenant, Upload(company.training_file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL, "demo")
    )
    if dataset.state != Dataset.STATE_READY:
        raise RpcFailed(
            grpc.StatusCode.INVALID_ARGUMENT, f"The example data was refused: {dataset.report}", reason="DATA_REJECTED"
        )
    wanted = TrainingJob(
        bot=company.bot,
        dataset=dataset.name,
        memory_limit_bytes=limit_bytes,
        settings=TrainingSettings(max_steps=settings.max_steps),
    )
    job = await _run_job(client, wanted, narrator)
    version = await client.bots.get_version(job.version)
    question = company.read_questions()[0].question
    hot_load_s = await time_hot_load(client, version.name, question)
    first_token_s = await time_first_token(client, company.bot, question)
    narrator.add(
        f"loss {version.evaluation.base_loss:.3f} → {version.evaluation.adapter_loss:.3f}, peak memory "
        f"{describe_peak(job.measured_peak_bytes, limit_bytes)}"
    )
    narrator.add(f"promoted; its first token came {hot_load_s * 1000:,.0f} ms later, without a restart")
    return _Trained(job, version, hot_load_s, first_token_s)


async def _run_job(client: AdaptoryClient, wanted: TrainingJob, narrator: Narrator) -> TrainingJob:
    job = await client.jobs.create(wanted)
    with open_view(narrator.console, job.memory_limit_bytes) as view:
        async for event in client.jobs.watch(job.name):
            view.show(event)
    ended = await client.jobs.get(job.name)
    if ended.state != TrainingJob.STATE_SUCCEEDED:
        raise RpcFailed.from_status(ended.error)
    return ended


async def _look_at_metrics(services: Services, narrator: Narrator) -> dict[str, float]:
    narrator.tell("Looking at both metrics ports, as Prometheus would")
    trainer, server = await asyncio.gather(scrape(services.trainer_metrics), scrape(services.server_metrics))
    samples = select(trainer, _SHOWN_METRICS["trainer"]) | select(server, _SHOWN_METRICS["server"])
    for name, value in samples.items():
        narrator.add(f"{name} {value:,.0f}")
    return samples


def _find_leaks(questions: Mapping[Company, list[Question]], answers: Mapping[Company, list[Answer]]) -> list[str]:
    leaks = []
    for company, given in answers.items():
        foreign = [question for other, asked in questions.items() if other != company for question in asked]
        leaks += quiz.find_leaks(given, foreign)
    return leaks


def _report_bot(
    company: Company,
    settings: DemoSettings,
    trained: _Trained,
    questions: list[Question],
    before: list[Answer],
    after: list[Answer],
) -> BotReport:
    job, version, scores = trained.job, trained.version, trained.version.evaluation
    return BotReport(
        tenant=company.tenant,
        bot=company.bot,
        kind="faq",
        job=job.name,
        version=version.name,
        digest=version.digest,
        base_loss=scores.base_loss,
        adapter_loss=scores.adapter_loss,
        accuracy_before=quiz.measure_recall(questions, before),
        accuracy_after=quiz.measure_recall(questions, after),
        memory_limit_bytes=settings.memory_limit_bytes,
        predicted_peak_bytes=job.plan.predicted_peak_bytes,
        measured_peak_bytes=job.measured_peak_bytes,
        train_tokens_per_second=scores.train_tokens_per_second,
        train_seconds=scores.train_seconds,
        hot_load_seconds=trained.hot_load_s,
        time_to_first_token_seconds=trained.first_token_s,
        busy_time_to_first_token_seconds=quiz.median_first_token_s(after),
        samples=make_samples(questions, before, after),
    )
