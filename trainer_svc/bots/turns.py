"""Reads the turns of a conversation out of a parsed line, and judges their order."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from adaptory.core.prompting import Message, Role
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import LineProblem
from trainer_svc.bots.texts import FieldRules, check_text

TURN_FIELDS = ("role", "content")
_ROLES: dict[object, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def read_turns(
    fields: Mapping[str, object], name: str, limits: DataLimits, rules: FieldRules, line: int
) -> tuple[Message, ...]:
    """Return the turns of field `name`, each `{"role", "content"}`; `rules` are those of a turn's fields.

    Raises LineProblem: FIELD_MISSING, FIELD_TYPE, NO_TURNS, TOO_MANY_TURNS, UNKNOWN_ROLE, and what `check_text` raises.
    """
    if name not in fields:
        raise LineProblem("FIELD_MISSING", f"`{name}` is missing; give it a list of turns")
    value = fields[name]
    if not isinstance(value, list):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not a list of turns")
    if not value:
        raise LineProblem("NO_TURNS", f"`{name}` has no turn; give at least one of the user and one of the assistant")
    if len(value) > limits.max_turns:
        raise LineProblem("TOO_MANY_TURNS", f"`{name}` has {len(value)} turns; at most {limits.max_turns} are taken")
    return tuple(
        _read_turn(turn, f"{name}[{place}]", limits.max_turn_chars, rules, line) for place, turn in enumerate(value)
    )


def check_order(turns: Sequence[Message], name: str) -> None:
    """Check that turns alternate, whoever begins, behind at most one system turn, so that serving can render them.

    Raises LineProblem: SYSTEM_TURN_LATE, CONSECUTIVE_TURNS.
    """
    for place, turn in enumerate(turns[1:], start=1):
        if turn.role == "system":
            raise LineProblem("SYSTEM_TURN_LATE", f"`{name}[{place}]` is a system turn; only the first turn may be one")
    for place, (turn, following) in enumerate(pairwise(turns)):
        if turn.role == following.role:
            sentence = (
                f"`{name}[{place}]` and the turn behind it are both of the {turn.role}; join them into one, since turns "
                "alternate when the bot is served"
            )
            raise LineProblem("CONSECUTIVE_TURNS", sentence)


def _read_turn(value: object, name: str, max_chars: int, rules: FieldRules, line: int) -> Message:
    if not isinstance(value, dict):
        raise LineProblem("FIELD_TYPE", f"`{name}` is not an object with role and content")
    rules.check(_text_keys(value), line)
    for field in TURN_FIELDS:
        if field not in value:
            raise LineProblem("FIELD_MISSING", f"`{name}.{field}` is missing; give it a text")
    role = _ROLES.get(value["role"]) if isinstance(value["role"], str) else None
    if role is None:
        raise LineProblem(
            "UNKNOWN_ROLE", f"`{name}.role` is none of system, user, assistant; the agent is the assistant"
        )
    return Message(role, check_text(value["content"], f"{name}.content", max_chars))


def _text_keys(value: dict[object, object]) -> Collection[str]:
    return [key for key in value if isinstance(key, str)]
