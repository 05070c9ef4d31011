"""What a row is, whatever its kind: how it is written for the worker, and rendered for one base.

A row of a conversation is one line `{"messages": [...], "is_held_out", "is_measured"}`, a row of code one line `{"prefix", "middle",
"suffix", "order", "is_held_out", "test", "stop_at"}`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tokenizers import Tokenizer

from adaptory.core.base_model import PreparedBase
from adaptory.core.code_stop import StopAt
from adaptory.core.digests import hash_text
from adaptory.core.fim import FimRenderer, FimRow, digest_form, find_family
from adaptory.core.fim_families import Order
from adaptory.core.prompting import Message, RenderedRow, Renderer
from adaptory.core.receipt import Receipt, sign_chat, sign_code
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.row import CodeRow, Row

LearnedRow = Row | CodeRow


def digest_rendering(kind: BotKind, base: PreparedBase) -> str:
    """Return the digest of what renders rows and prompts of a kind: the server that renders prompts must have the same."""
    if kind is BotKind.CODE_COMPLETION:
        return digest_form(base.fim, base.end_of_turn)
    return hash_text(base.chat_template)


def choose_receipt(kind: BotKind, receipts: Mapping[str, Receipt]) -> Receipt:
    """Return the receipt of a kind's form, of those that `RowRenderer.sign` makes."""
    return receipts.get("code" if kind is BotKind.CODE_COMPLETION else "chat", ())


def write_row(row: LearnedRow) -> str:
    """Return the line of a row, without its end."""
    if isinstance(row, CodeRow):
        told = {"is_held_out": row.is_held_out, "test": row.test, "stop_at": row.stop_at.value}
        return json.dumps({**asdict(row.row), **told}, ensure_ascii=False)
    return json.dumps(asdict(row), ensure_ascii=False)


def read_row(line: str) -> LearnedRow:
    """Return the row in a line that `write_row` wrote."""
    fields = json.loads(line)
    if "messages" in fields:
        return Row(_read_messages(fields["messages"]), fields["is_held_out"], fields["is_measured"])
    prefix, middle, suffix = (fields[name] for name in ("prefix", "middle", "suffix"))
    row = FimRow(prefix, middle, suffix, Order(fields["order"]))
    return CodeRow(row, fields["is_held_out"], fields["test"], StopAt(fields["stop_at"]))


class RowRenderer:
    """Renders rows for one base, each by the renderer that serves its kind."""

    def __init__(self, chat: Renderer, code: FimRenderer) -> None:
        """Take both renderers of the base."""
        self._chat = chat
        self._code = code

    @classmethod
    def of(cls, base: PreparedBase) -> "RowRenderer":
        """Open the base's tokenizer, template and FIM form."""
        # Of a vocabulary as large as Gemma's each copy takes a hundred megabytes, and seconds to read.
        tokenizer = Tokenizer.from_file(str(base.tokenizer_file))
        return cls(
            Renderer(tokenizer, base.chat_template, base.end_of_turn),
            FimRenderer(tokenizer, find_family(base.fim), base.end_of_turn),
        )

    def sign(self) -> dict[str, Receipt]:
        """Return the receipts of both forms, by `chat` and `code`."""
        return {"chat": sign_chat(self._chat), "code": sign_code(self._code)}

    def render(self, row: LearnedRow) -> RenderedRow:
        """Return a row's ids and what of them is learned. Raises what Renderer.render_row raises."""
        if isinstance(row, CodeRow):
            return self._render_code(row.row, is_held_out=row.is_held_out)
        return self._chat.render_row(row.messages)

    def _render_code(self, row: FimRow, *, is_held_out: bool) -> RenderedRow:
        return self._code.render_row(row) if is_held_out else self._code.render_lesson(row)


def _read_messages(turns: Sequence[dict[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(**turn) for turn in turns)  # type: ignore[arg-type]  # roles were checked where the data was read
