"""How completed code is scored: whether it is what stood there, how near it is, whether the file parses.

Whether its test passes is `pass_rate`'s, since that takes a sandbox and time.
"""

import ast
import warnings
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from trainer_svc.judging.scores import Judged, Score, compare

EDIT_SIMILARITY, EXACT_MATCH, PARSES = "edit_similarity", "exact_match", "parses"


def score_code(judged: Sequence[Judged]) -> list[Score]:
    """Return the scores.

    `edit_similarity` is 1 less the edit distance as a share of the longer text; `exact_match` says that both are equal but for white
    space at their ends. `parses` is the share of Python files that parse with the completion, of those that do with the reference.
    """
    placed = [(one, one.place) for one in judged if one.place is not None and one.place.is_python]
    python = [one for one, place in placed if parses(place.fill(one.reference))]
    return [
        *compare(EDIT_SIMILARITY, judged, lambda answer, one: measure_similarity(answer, one.reference)),
        *compare(EXACT_MATCH, judged, lambda answer, one: answer.strip() == one.reference.strip()),
        *compare(PARSES, python, _parses_in_place),
    ]


def measure_similarity(answer: str, reference: str) -> float:
    """Return 1 less the Levenshtein distance as a share of the longer text's length; 0 to 1."""
    similarity: float = Levenshtein.normalized_similarity(answer, reference)
    return similarity


def parses(source: str) -> bool:
    """Tell whether a text is Python that this interpreter parses; nothing of it runs."""
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _parses_in_place(answer: str, one: Judged) -> float:
    return float(one.place is not None and parses(one.place.fill(answer)))
