"""Reads how a bot is to be judged: its gate, its refusal, its style rules. Part of what `registry_requests` reads of a new bot."""

import math
from collections.abc import Sequence

from adaptory.core.violations import Violations
from adaptory.registry.v1 import bot_pb2
from trainer_svc.bots.refusals import RefusalLesson
from trainer_svc.judging.gate import QualityGate
from trainer_svc.judging.style import StyleRules

_MAX_REFUSAL_CHARS = 1_000
_MAX_UNANSWERABLE = 200
_MAX_RULE_TEXTS = 100
_MAX_RULE_CHARS = 200


def check_judgement(bot: bot_pb2.Bot, violations: Violations) -> None:
    """Note everything wrong with how a new bot is to be judged."""
    _check_gate(bot.quality_gate, violations)
    _check_refusal(bot, violations)
    _check_style(bot, violations)


def read_gate(gate: bot_pb2.QualityGate) -> QualityGate:
    """Return a gate that was checked."""
    return QualityGate(
        gate.max_loss_ratio, gate.min_gain, gate.max_general_loss_rise, gate.max_false_refusals, gate.max_pass_fall
    )


def read_refusal(bot: bot_pb2.Bot) -> RefusalLesson:
    """Return a refusal that was checked."""
    return RefusalLesson(bot.refusal_text.strip(), tuple(bot.unanswerable_questions))


def read_style(rules: bot_pb2.StyleRules) -> StyleRules:
    """Return style rules that were checked."""
    return StyleRules(
        greetings=tuple(rules.greetings),
        closings=tuple(rules.closings),
        forms_of_address=tuple(rules.forms_of_address),
        forbidden_words=tuple(rules.forbidden_words),
        min_chars=rules.min_chars,
        max_chars=rules.max_chars,
    )


def _check_gate(gate: bot_pb2.QualityGate, violations: Violations) -> None:
    ratio, gain, rise, refusals = (
        gate.max_loss_ratio,
        gate.min_gain,
        gate.max_general_loss_rise,
        gate.max_false_refusals,
    )
    violations.check(
        field="bot.quality_gate.max_loss_ratio",
        is_good=0 <= ratio < math.inf,
        sentence=f"is {ratio}; it must be above 0, or 0 for the default, 1",
    )
    violations.check(
        field="bot.quality_gate.min_gain",
        is_good=-1 <= gain <= 1,
        sentence=f"is {gain}; it must be -1 to 1, or 0 for the default",
    )
    violations.check(
        field="bot.quality_gate.max_general_loss_rise",
        is_good=0 <= rise < math.inf,
        sentence=f"is {rise}; it must be above 0, in nats, or 0 for the default, 2",
    )
    violations.check(
        field="bot.quality_gate.max_false_refusals",
        is_good=0 <= refusals <= 1,
        sentence=f"is {refusals}; it must be above 0 and up to 1, or 0 for the default, 0.1",
    )
    violations.check(
        field="bot.quality_gate.max_pass_fall",
        is_good=0 <= gate.max_pass_fall <= 1,
        sentence=f"is {gate.max_pass_fall}; it must be above 0 and up to 1, or 0 for the default, 0.05",
    )


def _check_refusal(bot: bot_pb2.Bot, violations: Violations) -> None:
    questions, is_faq = bot.unanswerable_questions, bot.kind == bot_pb2.BOT_KIND_FAQ
    violations.check_length(bot.refusal_text, field="bot.refusal_text", limit=_MAX_REFUSAL_CHARS)
    violations.check(
        field="bot.refusal_text",
        is_good=is_faq or not bot.refusal_text,
        sentence="is for bots of kind BOT_KIND_FAQ; leave it empty",
    )
    violations.check(
        field="bot.unanswerable_questions",
        is_good=not questions or bool(bot.refusal_text.strip()),
        sentence="needs a refusal_text to answer them with",
    )
    violations.check(
        field="bot.unanswerable_questions",
        is_good=len(questions) <= _MAX_UNANSWERABLE,
        sentence=f"has {len(questions)} questions; at most {_MAX_UNANSWERABLE} are taken",
    )
    for place, question in enumerate(questions):
        field = f"bot.unanswerable_questions[{place}]"
        violations.check(field=field, is_good=bool(question.strip()), sentence="is empty; give it a text")
        violations.check_length(question, field=field, limit=_MAX_REFUSAL_CHARS)


def _check_style(bot: bot_pb2.Bot, violations: Violations) -> None:
    rules = bot.style_rules
    violations.check(
        field="bot.style_rules",
        is_good=bot.kind == bot_pb2.BOT_KIND_SUPPORT or not bot.HasField("style_rules"),
        sentence="is for bots of kind BOT_KIND_SUPPORT; leave it out",
    )
    _check_texts(rules.greetings, "greetings", violations)
    _check_texts(rules.closings, "closings", violations)
    _check_texts(rules.forms_of_address, "forms_of_address", violations)
    _check_texts(rules.forbidden_words, "forbidden_words", violations)
    violations.check(
        field="bot.style_rules.min_chars",
        is_good=0 <= rules.min_chars <= (rules.max_chars or math.inf),
        sentence=f"is {rules.min_chars}; it must be 0 or more, and no more than max_chars",
    )
    violations.check(
        field="bot.style_rules.max_chars",
        is_good=rules.max_chars >= 0,
        sentence=f"is {rules.max_chars}; it must be above 0, or 0 for no limit",
    )


def _check_texts(texts: Sequence[str], name: str, violations: Violations) -> None:
    field = f"bot.style_rules.{name}"
    violations.check(
        field=field,
        is_good=len(texts) <= _MAX_RULE_TEXTS,
        sentence=f"has {len(texts)} texts; at most {_MAX_RULE_TEXTS} are taken",
    )
    for place, text in enumerate(texts):
        violations.check(field=f"{field}[{place}]", is_good=bool(text.strip()), sentence="is empty; give it a text")
        violations.check_length(text, field=f"{field}[{place}]", limit=_MAX_RULE_CHARS)
