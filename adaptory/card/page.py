"""The card as one HTML page that needs nothing beside it: no script, no font, no picture from elsewhere.

Texts of the tenant and of models are escaped, and the page forbids itself every source but its own style.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from adaptory.card.card import Card
from adaptory.card.drawing import draw_bars, draw_curve
from adaptory.registry.v1.bot_pb2 import BotKind
from adaptory.registry.v1.version_pb2 import Evaluation, Version

_MIB = 2**20
_TEMPLATE = "page.html.jinja"
# What scores mean, in words for people; the contract has their definitions.
_MEANINGS = {
    "fact_recall": "answers that hold every fact of their reference",
    "token_f1": "words in common with the reference",
    "refusals": "unanswerable questions it refuses",
    "false_refusals": "answerable questions it refuses",
    "chrf": "letters in common with the agent's reply",
    "style_kept": "style rules kept",
    "exact_match": "completions equal to what stood there",
    "edit_similarity": "likeness of completions to what stood there",
    "parses": "files that still parse with the completion",
    "pass_at_1": "completions that pass their tests",
}


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """One score of base and adapter; `verdict` is `better`, `worse` or `same`."""

    name: str
    meaning: str
    base: float
    adapter: float
    of: str
    verdict: str


def render_page(card: Card) -> str:
    """Return the page."""
    version, lineage = card.version, card.version.lineage
    limit_bytes = lineage.memory_limit_bytes or (card.job.plan.limit_bytes if card.job else 0)
    bars, limit_share = draw_bars(lineage.predicted_phase_bytes, lineage.phase_peak_bytes, limit_bytes)
    found = card.dataset.report.num_by_reason.items() if card.dataset else ()
    environment = Environment(
        loader=PackageLoader("adaptory.card", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = _format_size
    evaluation = version.evaluation
    return environment.get_template(_TEMPLATE).render(
        card=card,
        version=version,
        lineage=lineage,
        kind=BotKind.Name(card.bot.kind).removeprefix("BOT_KIND_").replace("_", " ").lower(),
        state=Version.State.Name(version.state).removeprefix("STATE_").lower(),
        scores=_list_scores(evaluation),
        curve=draw_curve(
            [step.step for step in card.steps],
            [step.loss for step in card.steps],
            {"held-out, base": evaluation.base_loss, "held-out, adapter": evaluation.adapter_loss},
            {step.step: step.held_out_loss for step in card.steps if step.held_out_loss is not None},
        ),
        bars=bars,
        limit_share=limit_share,
        limit_bytes=limit_bytes,
        reasons=sorted(found, key=lambda counted: -counted[1]),
        settings=_order(lineage.settings),
        versions=_order(lineage.code_versions),
    )


def _list_scores(found: Evaluation) -> list[ScoreLine]:
    lines = [
        _make_line(
            score.name,
            score.base,
            score.adapter,
            f"{score.num_answers:,} answers",
            is_lower_better=score.is_lower_better,
        )
        for score in found.scores
    ]
    held_out = f"{found.num_held_out_rows:,} rows"
    lines.append(_make_line("loss, held-out rows", found.base_loss, found.adapter_loss, held_out, is_lower_better=True))
    if found.base_general_loss:
        of, base, adapter = "a neutral text", found.base_general_loss, found.adapter_general_loss
        lines.append(_make_line("loss, general text", base, adapter, of, is_lower_better=True))
    return lines


def _make_line(name: str, base: float, adapter: float, of: str, *, is_lower_better: bool) -> ScoreLine:
    gain = base - adapter if is_lower_better else adapter - base
    verdict = "same" if gain == 0 else "better" if gain > 0 else "worse"
    return ScoreLine(name.replace("_", " "), _MEANINGS.get(name, ""), base, adapter, of, verdict)


def _order(fields: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted((name.replace("_", " "), value) for name, value in fields.items())


def _format_size(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.0f} MiB"
