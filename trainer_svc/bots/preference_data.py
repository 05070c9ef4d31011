"""Reads preference pairs: `{"prompt": [turns], "chosen", "rejected"}` a line, in bounded memory.

An answer is a text, or a list of one assistant turn as trainers of preferences write it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from adaptory.core.prompting import Message, Renderer
from trainer_svc.bots.entry import RowKey
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.lines import parse_json_line, read_filled_lines
from trainer_svc.bots.problem import LineProblem, ProblemSink
from trainer_svc.bots.texts import FieldRules, fold_text, read_text
from trainer_svc.bots.turns import TURN_FIELDS, check_order, read_turns

_FIELDS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two answers to one conversation, of which people prefer the chosen one."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str

    @property
    def keys(self) -> tuple[RowKey, ...]:
        """The prompt with both answers."""
        turns = (*self.prompt, Message("assistant", self.chosen), Message("assistant", self.rejected))
        return (RowKey("\n".join(f"{turn.role}: {fold_text(turn.content)}" for turn in turns)),)

    @property
    def texts(self) -> tuple[str, ...]:
        """All turns and both answers."""
        return (*(turn.content for turn in self.prompt), self.chosen, self.rejected)

    def measure(self, renderer: Renderer) -> Iterator[int]:
        """Yield the length in tokens of the prompt with the longer answer."""
        answers = (self.chosen, self.rejected)
        yield max(len(renderer.render_row((*self.prompt, Message("assistant", answer))).ids) for answer in answers)


def read_preference_lines(
    file: BinaryIO, limits: DataLimits, problems: ProblemSink
) -> Iterator[tuple[int, PreferencePair]]:
    """Yield each pair with its line, from 1; what cannot be used is told to `problems` and left out."""
    rules, turn_rules = FieldRules(_FIELDS, problems), FieldRules(TURN_FIELDS, problems)
    for line, raw in read_filled_lines(file, limits.max_line_bytes):
        try:
            fields = parse_json_line(raw, limits)
            rules.check(fields.keys(), line)
            yield line, _make_pair(fields, limits, turn_rules, line)
        except LineProblem as problem:
            problems.add_error(line, problem.reason, problem.description)


def _make_pair(fields: Mapping[str, object], limits: DataLimits, rules: FieldRules, line: int) -> PreferencePair:
    prompt = read_turns(fields, "prompt", limits, rules, line)
    check_order(prompt, "prompt")
    if prompt[-1].role != "user":
        raise LineProblem("PROMPT_UNASKED", "`prompt` does not end with the user; its last turn is what is answered")
    chosen, rejected = (_read_answer(fields, name, limits, rules, line) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise LineProblem("SAME_ANSWERS", "chosen and rejected are the same; a pair must show a difference")
    return PreferencePair(prompt, chosen, rejected)


def _read_answer(fields: Mapping[str, object], name: str, limits: DataLimits, rules: FieldRules, line: int) -> str:
    if isinstance(fields.get(name), str):
        return read_text(fields, name, limits.max_turn_chars)
    turns = read_turns(fields, name, limits, rules, line)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise LineProblem("FIELD_TYPE", f"`{name}` is neither a text nor a list of one assistant turn")
    return turns[0].content
