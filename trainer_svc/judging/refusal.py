"""Refusals: whether an answer is the one a bot was taught to give where its data has none."""

from trainer_svc.judging.overlap import score_token_f1

# An answer that shares this much with the taught refusal says it; wordings of an answer share far less with it.
_MIN_OVERLAP = 0.8


def is_refusal(answer: str, refusal_text: str) -> bool:
    """Tell whether an answer is the taught refusal, give or take a word; without a taught one nothing is."""
    return bool(refusal_text.strip()) and score_token_f1(answer, refusal_text) >= _MIN_OVERLAP
