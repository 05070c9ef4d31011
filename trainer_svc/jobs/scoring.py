"""Scores what a worker's base and adapter answered: joins each answer with the row it belongs to, and asks `trainer_svc.judging`.

Answers hold a tenant's texts: they lie in the attempt's folder until they are scored, and go with it; samples stay with the version.
"""

import json
from pathlib import Path
from typing import Any

from adaptory.core.base_model import PreparedBase
from adaptory.core.code_stop import StopAt, cut_completion, make_stop
from adaptory.core.fim import find_family
from adaptory.core.fim_families import FimFamily
from trainer_svc.bots.refusals import RefusalLesson
from trainer_svc.jobs.outcome import TrainingFailed
from trainer_svc.jobs.workspace import JudgedAnswer, WorkerResult, Workspace
from trainer_svc.judging.answers import Criteria, pick_samples, score_answers, weigh_certainty
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.pass_rate import RunBudget, Trials
from trainer_svc.judging.scores import CodePlace, Judged
from trainer_svc.registry.bots import BotDraft

# Characters of a file that a sample shows on each side of the place to fill.
_SHOWN_CHARS = 120


def evaluate_attempt(
    workspace: Workspace, result: WorkerResult, bot: BotDraft, trials: Trials | None = None
) -> Evaluation:
    """Return what a version is judged by; tests of code are run by `trials`, else within the default budget. Blocks.

    Raises TrainingFailed (NOT_EVALUATED) when the worker left too little for it.
    """
    losses = (result.base_loss, result.adapter_loss, result.base_general_loss, result.adapter_general_loss)
    base_loss, adapter_loss, base_general_loss, adapter_general_loss = (_require(loss) for loss in losses)
    judged = _read_judged(workspace)
    criteria = Criteria(bot.kind, bot.refusal.text, bot.style)
    pass_rate = (trials or Trials(RunBudget())).measure(judged)
    return Evaluation(
        base_loss=base_loss,
        adapter_loss=adapter_loss,
        num_held_out_rows=result.num_held_out_rows,
        num_train_rows=result.num_train_rows,
        train_tokens_per_second=result.tokens_per_second,
        train_seconds=result.train_seconds,
        base_general_loss=base_general_loss,
        adapter_general_loss=adapter_general_loss,
        scores=(*score_answers(judged, criteria), *pass_rate.scores),
        samples=pick_samples(judged),
        notes=pass_rate.notes,
        certainty=weigh_certainty(judged, criteria),
    )


def count_refusal_rows(workspace: Workspace, lesson: RefusalLesson) -> int:
    """Return how many of the trained rows are answered by the taught refusal. Blocks."""
    if not lesson.text:
        return 0
    with Path(workspace.read_spec().train_rows).open(encoding="utf-8") as lines:
        return sum(json.loads(line)["messages"][-1]["content"] == lesson.text for line in lines)


def _require(loss: float | None) -> float:
    if loss is None:
        raise TrainingFailed(
            "The worker succeeded but left no losses of held-out rows and general text.", reason="NOT_EVALUATED"
        )
    return loss


def _read_judged(workspace: Workspace) -> list[Judged]:
    try:
        answers = workspace.read_answers()
    except (OSError, ValueError) as error:
        raise TrainingFailed(
            "The worker succeeded but left no answers that can be read.", reason="NOT_EVALUATED"
        ) from error
    spec = workspace.read_spec()
    rows = _read_rows(Path(spec.held_out_rows), {answer.line for answer in answers})
    family = find_family(PreparedBase.open(Path(spec.base_dir)).fim)
    return [_join(answer, rows[answer.line], family) for answer in answers]


def _read_rows(file: Path, wanted: set[int]) -> dict[int, dict[str, Any]]:
    """Return the rows in these lines, as `row_rendering` writes them."""
    with file.open(encoding="utf-8") as lines:
        return {number: json.loads(line) for number, line in enumerate(lines) if number in wanted}


def _join(answer: JudgedAnswer, row: dict[str, Any], family: FimFamily) -> Judged:
    return _join_chat(answer, row["messages"]) if "messages" in row else _join_code(answer, row, family)


def _join_chat(answer: JudgedAnswer, turns: list[dict[str, str]]) -> Judged:
    """Join an answer with what stood before it: the bot's turns are the learned stretches, in order."""
    places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    before = turns[: places[answer.turn]]
    asked = [turn["content"] for turn in before if turn["role"] == "user"]
    return Judged(
        prompt="\n".join(turn["content"] for turn in before),
        question=asked[-1] if asked else "",
        reference=answer.reference.strip(),
        base=answer.base.strip(),
        adapter=answer.adapter.strip(),
        turn=answer.turn,
        certainty=answer.certainty,
    )


def _join_code(answer: JudgedAnswer, row: dict[str, str], family: FimFamily) -> Judged:
    """Join a completion, cut as serving would cut it, with the file it goes into, and its test if it has one; white space counts."""
    prefix, suffix = row["prefix"], row["suffix"]
    carried = family.carry(prefix)

    def cut(text: str) -> str:
        return cut_completion(text.removeprefix(carried), make_stop(StopAt(row["stop_at"]), prefix, suffix))

    question = f"{prefix[-_SHOWN_CHARS:]}▮{suffix[:_SHOWN_CHARS]}"
    place = CodePlace(prefix, suffix, test=row["test"])
    return Judged(prefix, question, row["middle"], cut(answer.base), cut(answer.adapter), place=place)
