"""Judges data in a test as the service does, and reads what a reader yields."""

import io
import json
from collections.abc import Sequence

from trainer_svc.bots.entry import Entry
from trainer_svc.bots.formats import layout_of
from trainer_svc.bots.inspection import judge_dataset
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.lengths import TokenRuler
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import NoProblems
from trainer_svc.bots.report import DatasetReport

_KINDS = {
    DatasetFormat.CONVERSATION_JSONL: BotKind.SUPPORT,
    DatasetFormat.PREFERENCE_JSONL: BotKind.SUPPORT,
    DatasetFormat.CODE_JSONL: BotKind.CODE_COMPLETION,
}


def judge(
    data: bytes, dataset_format: DatasetFormat, limits: DataLimits | None = None, ruler: TokenRuler | None = None
) -> DatasetReport:
    """Return the report on a file of this format."""
    kind = _KINDS.get(dataset_format, BotKind.FAQ)
    return judge_dataset(io.BytesIO(data), kind, dataset_format, limits or DataLimits(), ruler)


def read(data: bytes, dataset_format: DatasetFormat) -> list[tuple[int, Entry]]:
    """Return each entry of a good file with its line. Raises LineProblem where it is not good."""
    return list(layout_of(dataset_format).read(io.BytesIO(data), DataLimits(), NoProblems()))


def found(report: DatasetReport) -> list[tuple[int, str]]:
    """Return each problem's line and reason."""
    return [(problem.line, problem.reason) for problem in report.problems]


def talk(*texts: str, opening: str = "user") -> dict[str, object]:
    """Return a conversation whose turns alternate."""
    roles = ("user", "assistant") if opening == "user" else ("assistant", "user")
    return {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]}


def jsonl(lines: Sequence[object]) -> bytes:
    """Return a file of one JSON value a line."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
