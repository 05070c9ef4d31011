"""The text on which general losses are taken: plain English prose about everyday things, written for this product.

It names no company and no fact a tenant would teach, so a loss that rises on it means that an adapter spoiled its base.
"""

from importlib.resources import files


def read_general_text() -> str:
    """Return the text: some 1,100 words in paragraphs."""
    return (files("trainer_svc.judging") / "general_text.txt").read_text(encoding="utf-8")
