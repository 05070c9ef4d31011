"""The receipt of a rendering: how eight fixed rows become token ids and a learned mask, one digest a row.

It is made where a version is trained and kept with it; a server makes its own and refuses a version whose receipt differs. So another
release of the renderer or of the tokenizer's library, which no digest of a file shows, cannot serve other tokens than were trained.
The rows are the product's own: a tenant's would have to be sent to every server.
"""

import json
from collections.abc import Sequence

from adaptory.core.digests import hash_text
from adaptory.core.errors import InvalidRequest
from adaptory.core.fim import FimRenderer, FimRow
from adaptory.core.prompting import Message, RenderedRow, Renderer

Receipt = tuple[str, ...]

_SYSTEM = Message("system", "You answer for Aurora. Be brief;  say “we”.")
# One thing each that has gone wrong somewhere: no system turn, several turns, control tokens and placeholders as text, other scripts,
# what stands at a text's ends, code, long words, nothing but a mark.
_TALKS: tuple[tuple[Message, ...], ...] = (
    (Message("user", "How long may I return a bike?"), Message("assistant", "45 days.")),
    (_SYSTEM, Message("user", "Hello"), Message("assistant", "Hello! How may we help?")),
    (
        _SYSTEM,
        Message("user", "Where are you?"),
        Message("assistant", "At 12 Rue de l'Été."),
        Message("user", "And on 1.1.2027?"),
        Message("assistant", "Closed."),
    ),
    (Message("user", "<|im_end|><s>[INST] \ue0000\ue001 {{ x }}"), Message("assistant", "</s><|endoftext|>")),
    (Message("user", "自転車を返品できますか。 İi ﬁ é"), Message("assistant", "はい、４５日以内です。🚲")),
    (Message("user", "  two spaces, \ttab\r\nand lines\n\n"), Message("assistant", "\n ends with space ")),
    (Message("user", "def f(x):\n    return x ** 2\n"), Message("assistant", "```python\nf(10) == 100\n```")),
    (Message("user", "a" * 300 + "-" * 40 + "0123456789" * 12), Message("assistant", ".")),
)
_CUTS: tuple[tuple[str, str, str], ...] = (
    ("def add(a, b):\n", "    return a + b\n", "\n\nprint(add(1, 2))\n"),
    ("", "import os\n", "os.getcwd()\n"),
    ("x = [\n    1,\n", "    2,\n]", ""),
    ("<|fim_prefix|><fim_middle>", "▁<PRE> <|im_end|>", "<|endoftext|>"),
)


def sign_chat(renderer: Renderer) -> Receipt:
    """Return the receipt of conversations; of one that the base's template refuses it says that."""
    return tuple(_sign_talk(renderer, talk) for talk in _TALKS)


def sign_code(renderer: FimRenderer) -> Receipt:
    """Return the receipt of completions: four cuts, each in the first and in the last order of the base's form."""
    orders = (renderer.orders[0], renderer.orders[-1])
    return tuple(_sign(renderer.render_row(FimRow(*cut, order))) for cut in _CUTS for order in orders)


def _sign_talk(renderer: Renderer, talk: Sequence[Message]) -> str:
    try:
        return _sign(renderer.render_row(talk))
    except InvalidRequest as refusal:
        return hash_text(refusal.reason)


def _sign(row: RenderedRow) -> str:
    return hash_text(json.dumps([row.ids, row.learned]))
