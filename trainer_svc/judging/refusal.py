"""Refusals: whether an answer is the one a bot was taught to give where its data has none, in any language."""

from collections import Counter
from itertools import pairwise

from trainer_svc.judging.overlap import score_token_f1
from trainer_svc.judging.text import is_unspaced, split_tokens

# An answer that shares this much with the taught refusal says it; wordings of an answer share far less with it.
_MIN_OVERLAP = 0.8
# In scripts without spaces tokens are single characters, of which any two polite sentences share many: so many pairs of neighbours
# must be the same, too. One verb in another form leaves 0.78 of a short refusal in Japanese and 0.88 of one with an apology in front;
# an answer that says something else behind the same apology has 0.71 to 0.77.
_MIN_PAIRS = 0.78


def is_refusal(answer: str, refusal_text: str) -> bool:
    """Tell whether an answer is the taught refusal, give or take a word; without a taught one nothing is."""
    if not refusal_text.strip() or score_token_f1(answer, refusal_text) < _MIN_OVERLAP:
        return False
    return not is_unspaced(refusal_text) or _share_pairs(answer, refusal_text) >= _MIN_PAIRS


def _share_pairs(answer: str, refusal_text: str) -> float:
    """Return the harmonic mean of precision and recall over pairs of neighbouring tokens; 1 where neither text has a pair."""
    ours, theirs = (Counter(pairwise(split_tokens(text))) for text in (answer, refusal_text))
    num_pairs = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / num_pairs if num_pairs else 1.0
