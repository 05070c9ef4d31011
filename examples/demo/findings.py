"""Puts together what was found of each bot: its job, its version's evaluation, and what it said before and after."""

from dataclasses import dataclass
from pathlib import Path

from adaptory.registry.v1.bot_pb2 import BotKind
from examples.demo import quiz
from examples.demo.bots import DemoBot
from examples.demo.quiz import Answer
from examples.demo.report import BotReport, BotScore, Quizzed, Sample, make_samples
from examples.demo.training import Trained

# The base knows nothing of the companies whichever questions it gets, and its answers are long: it is asked every twelfth.
BASE_ASKED_EVERY = 12


@dataclass(frozen=True, slots=True)
class Told:
    """What a bot said before and after: answers to the questions of an FAQ bot, and to the opening of any other."""

    answers_before: list[Answer]
    answers_after: list[Answer]
    reply_before: str


def report_bot(bot: DemoBot, trained: Trained, told: Told, card: Path) -> BotReport:
    """Return the report of one bot; its card is the page at `card`."""
    job, version, found = trained.job, trained.version, trained.version.evaluation
    return BotReport(
        tenant=bot.company.tenant,
        bot=bot.name,
        kind=BotKind.Name(bot.declared.kind).removeprefix("BOT_KIND_").lower(),
        job=job.name,
        version=version.name,
        digest=version.digest,
        base_loss=found.base_loss,
        adapter_loss=found.adapter_loss,
        base_general_loss=found.base_general_loss,
        adapter_general_loss=found.adapter_general_loss,
        main_score=bot.main_score,
        min_gain=bot.min_gain,
        scores=tuple(
            BotScore(score.name, score.base, score.adapter, score.num_answers, score.is_lower_better)
            for score in found.scores
        ),
        quizzed=_sum_up_quiz(bot, told) if told.answers_after else None,
        memory_limit_bytes=job.memory_limit_bytes,
        predicted_peak_bytes=job.plan.predicted_peak_bytes,
        measured_peak_bytes=job.measured_peak_bytes,
        train_tokens_per_second=found.train_tokens_per_second,
        train_seconds=found.train_seconds,
        hot_load_seconds=trained.hot_load_s,
        time_to_first_token_seconds=trained.first_token_s,
        samples=_collect_samples(bot, trained, told),
        card=str(card),
    )


def _sum_up_quiz(bot: DemoBot, told: Told) -> Quizzed:
    questions = bot.company.read_questions()
    return Quizzed(
        accuracy_before=quiz.measure_recall(questions[::BASE_ASKED_EVERY], told.answers_before),
        accuracy_after=quiz.measure_recall(questions, told.answers_after),
        busy_time_to_first_token_seconds=quiz.median_first_token_s(told.answers_after),
    )


def _collect_samples(bot: DemoBot, trained: Trained, told: Told) -> tuple[Sample, ...]:
    if not told.answers_after:
        judged = (
            Sample(sample.question, sample.reference, sample.base, sample.adapter)
            for sample in trained.version.evaluation.samples
        )
        return Sample(bot.opening_text, "", told.reply_before, trained.reply), *judged
    before: list[Answer | None] = [None] * len(told.answers_after)
    before[::BASE_ASKED_EVERY] = told.answers_before
    return make_samples(bot.company.read_questions(), before, told.answers_after)
