"""Reads support data: one conversation a line, `{"messages": [{"role", "content"}, …]}`, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from adaptory.core.prompting import Message, Renderer
from trainer_svc.bots.entry import RowKey
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.lines import parse_json_line, read_filled_lines
from trainer_svc.bots.problem import LineProblem, ProblemSink
from trainer_svc.bots.texts import FieldRules, fold_text
from trainer_svc.bots.turns import TURN_FIELDS, check_order, read_turns


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of users and agents: turns of both alternate, whoever begins, and it ends with the agent's last turn."""

    messages: tuple[Message, ...]

    @property
    def keys(self) -> tuple[RowKey, ...]:
        """All turns with who speaks."""
        return (RowKey("\n".join(f"{turn.role}: {fold_text(turn.content)}" for turn in self.messages)),)

    @property
    def texts(self) -> tuple[str, ...]:
        """All turns."""
        return tuple(turn.content for turn in self.messages)

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """The conversation as one row, in which every turn of the agent is learned."""
        return (self.messages,)

    def measure(self, renderer: Renderer) -> Iterator[int]:
        """Yield the length of its row in tokens."""
        yield len(renderer.render_row(self.messages).ids)


def read_conversation_lines(
    file: BinaryIO, limits: DataLimits, problems: ProblemSink
) -> Iterator[tuple[int, Conversation]]:
    """Yield each conversation with its line, from 1; what cannot be used is told to `problems` and left out."""
    rules, turn_rules = FieldRules(("messages",), problems), FieldRules(TURN_FIELDS, problems)
    for line, raw in read_filled_lines(file, limits.max_line_bytes):
        try:
            fields = parse_json_line(raw, limits)
            rules.check(fields.keys(), line)
            turns = read_turns(fields, "messages", limits, turn_rules, line)
            check_order(turns, "messages")
            yield line, _make_conversation(turns, line, problems)
        except LineProblem as problem:
            problems.add_error(line, problem.reason, problem.description)


def _make_conversation(turns: tuple[Message, ...], line: int, problems: ProblemSink) -> Conversation:
    roles = [turn.role for turn in turns]
    if "user" not in roles:
        raise LineProblem("NO_USER_TURN", "no turn is of the user; give what the agent answers to")
    if "assistant" not in roles[roles.index("user") :]:
        raise LineProblem("NO_AGENT_TURN", "no turn of the assistant answers the user; there is nothing to learn")
    if roles[0] == "system":
        # Serving renders the bot's own system turn and no other, and rows must be what serving renders.
        sentence = "the conversation's own system turn is not learned: the bot's system prompt stands in its place"
        problems.add_warning(line, "SYSTEM_TURN_UNREAD", sentence)
        turns = turns[1:]
    if roles[-1] == "user":
        sentence = "the conversation ends with the user; that turn has no answer to learn and is left out"
        problems.add_warning(line, "UNANSWERED_TURN", sentence)
        turns = turns[:-1]
    return Conversation(turns)
