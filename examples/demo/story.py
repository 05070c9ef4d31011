"""The demo from beginning to end. Every call is one a customer's or an operator's program would make."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from adaptory.client import AdaptoryClient
from adaptory.registry.v1.bot_pb2 import BOT_KIND_FAQ, Bot, QualityGate
from examples.demo import quiz
from examples.demo.bots import BASE_MODEL, DemoBot, make_bots
from examples.demo.cards import write_cards
from examples.demo.companies import CODE_COMPANY, COMPANIES, Company, Question
from examples.demo.findings import BASE_ASKED_EVERY, Told, report_bot
from examples.demo.metrics import scrape, select
from examples.demo.narrator import Narrator
from examples.demo.opening import hear_reply
from examples.demo.quiz import Answer
from examples.demo.report import DemoReport
from examples.demo.services import Services, run_services
from examples.demo.training import TrainingLimits, train_bot

_SHOWN_METRICS = {
    "trainer": ("adaptory_trainer_jobs_ended_total",),
    "server": ("adaptory_serve_requests_total", "adaptory_serve_tokens_total", "adaptory_serve_adapter_loads_total"),
}


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """`max_steps` cuts training short, for a look at the flow rather than at the result; cards go to `cards_dir`."""

    memory_limit_bytes: int
    max_steps: int | None
    state_dir: Path
    cards_dir: Path
    setup_seconds: float


async def tell_story(settings: DemoSettings, narrator: Narrator) -> DemoReport:
    """Run the demo. Raises RpcFailed, ServiceEnded or OSError when a part of it cannot be done."""
    shutil.rmtree(settings.state_dir, ignore_errors=True)
    shutil.rmtree(settings.cards_dir, ignore_errors=True)
    bots = make_bots(settings.state_dir)
    limits = TrainingLimits(settings.memory_limit_bytes, settings.max_steps)
    async with AsyncExitStack() as stack:
        with narrator.wait("Starting trainer_svc and serve_svc (vLLM), each a process of its own"):
            services = await stack.enter_async_context(run_services(settings.state_dir))
        operator = await stack.enter_async_context(services.open_client(services.admin_key))
        clients = {}
        for company in (*COMPANIES, CODE_COMPANY):
            key = await _create_tenant(operator, company)
            clients[company] = await stack.enter_async_context(services.open_client(key))
            own = [bot for bot in bots if bot.company == company]
            await _create_bots(operator, own, settings)
            narrator.add(
                f"{company.tenant} has a key of its own and {', '.join(bot.name for bot in own)}, on {BASE_MODEL}"
            )
        before = await _ask_base(clients, bots, narrator)
        trained = {bot: await train_bot(clients[bot.company], bot, limits, narrator) for bot in bots}
        questions = {bot: bot.company.read_questions() for bot in bots if bot.declared.kind == BOT_KIND_FAQ}
        after = await _ask_everybody(
            "Asking both FAQ bots at once, in wordings they never saw", clients, questions, narrator
        )
        told = {bot: Told(before[0].get(bot, []), after.get(bot, []), before[1].get(bot, "")) for bot in bots}
        samples = await _look_at_metrics(services, narrator)
        versions = [trained[bot].version.name for bot in bots]
        cards = await asyncio.to_thread(write_cards, services, versions, settings.cards_dir)
        narrator.tell("Stopping both services")
    reports = tuple(report_bot(bot, trained[bot], told[bot], card) for bot, card in zip(bots, cards, strict=True))
    return DemoReport(settings.setup_seconds, narrator.seconds, reports, tuple(_find_leaks(questions, after)), samples)


async def _create_tenant(operator: AdaptoryClient, company: Company) -> str:
    await operator.tenants.create(company.tenant_id, display_name=company.display_name)
    key = await operator.tenants.create_key(company.tenant, display_name="demo")
    return key.secret


async def _create_bots(operator: AdaptoryClient, bots: Sequence[DemoBot], settings: DemoSettings) -> None:
    for bot in bots:
        declared = Bot()
        declared.CopyFrom(bot.declared)
        if settings.max_steps:
            # Cut short, training teaches nothing the gate would let pass; the flow is to be seen all the same.
            declared.quality_gate.CopyFrom(QualityGate(min_gain=-1))
        await operator.bots.create(bot.company.tenant, bot.bot_id, declared)


async def _ask_base(
    clients: Mapping[Company, AdaptoryClient], bots: Sequence[DemoBot], narrator: Narrator
) -> tuple[dict[DemoBot, list[Answer]], dict[DemoBot, str]]:
    """Return what the base answers to some questions of each FAQ bot, and what it makes of the opening of every other bot."""
    questions = {
        bot: bot.company.read_questions()[::BASE_ASKED_EVERY] for bot in bots if bot.declared.kind == BOT_KIND_FAQ
    }
    answers = await _ask_everybody(
        "Asking the base what no one has taught it yet", clients, questions, narrator, suffix="/versions/0"
    )
    replies = {}
    for bot in bots:
        if bot not in questions:
            replies[bot] = await hear_reply(clients[bot.company], f"{bot.name}/versions/0", bot.opening)
            narrator.add(f"{bot.name}, asked {bot.opening_text!r}, says {replies[bot]!r}")
    return answers, replies


async def _ask_everybody(
    sentence: str,
    clients: Mapping[Company, AdaptoryClient],
    questions: Mapping[DemoBot, list[Question]],
    narrator: Narrator,
    *,
    suffix: str = "",
) -> dict[DemoBot, list[Answer]]:
    with narrator.count(sentence, sum(len(asked) for asked in questions.values())) as on_answer:
        answers = await asyncio.gather(
            *(
                quiz.ask_all(clients[bot.company], bot.name + suffix, asked, on_answer)
                for bot, asked in questions.items()
            )
        )
    told = dict(zip(questions, answers, strict=True))
    for bot, given in told.items():
        recall = quiz.measure_recall(questions[bot], given)
        narrator.add(f"{bot.company.display_name}: {recall:.0%} of {len(given)} facts")
    return told


async def _look_at_metrics(services: Services, narrator: Narrator) -> dict[str, float]:
    narrator.tell("Looking at both metrics ports, as Prometheus would")
    trainer, server = await asyncio.gather(scrape(services.trainer_metrics), scrape(services.server_metrics))
    samples = select(trainer, _SHOWN_METRICS["trainer"]) | select(server, _SHOWN_METRICS["server"])
    for name, value in samples.items():
        narrator.add(f"{name} {value:,.0f}")
    return samples


def _find_leaks(questions: Mapping[DemoBot, list[Question]], answers: Mapping[DemoBot, list[Answer]]) -> list[str]:
    leaks = []
    for bot, given in answers.items():
        foreign = [question for other, asked in questions.items() if other != bot for question in asked]
        leaks += quiz.find_leaks(given, foreign)
    return leaks
