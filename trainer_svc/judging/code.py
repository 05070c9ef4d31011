"""How completed code is scored: whether it is what stood there, how near it is, whether the file parses, whether its test passes.

Owns the measures; running a test is `sandbox`'s.
"""

import ast
import warnings
from collections.abc import Callable, Sequence

from rapidfuzz.distance import Levenshtein

from trainer_svc.judging.scores import CodePlace, Judged, Score, compare

EDIT_SIMILARITY, EXACT_MATCH, PARSES, PASS_AT_1 = "edit_similarity", "exact_match", "parses", "pass_at_1"

# Tells whether a Python program runs to its end, as `sandbox.Sandbox.runs` does.
Runs = Callable[[str], bool]


def score_code(judged: Sequence[Judged], runs: Runs | None) -> list[Score]:
    """Return the scores.

    `edit_similarity` is 1 less the edit distance as a share of the longer text; `exact_match` says that both are equal but for white
    space at their ends. `parses` is the share of Python files that parse with the completion, of those that do with the reference;
    `pass_at_1` the share whose test passes with the one completion there is, of those whose test passes with the reference. Without
    `runs` it is left out.
    """
    placed = [(one, one.place) for one in judged if one.place is not None and one.place.is_python]
    python = [one for one, place in placed if parses(place.fill(one.reference))]
    scores = [
        *compare(EDIT_SIMILARITY, judged, lambda answer, one: measure_similarity(answer, one.reference)),
        *compare(EXACT_MATCH, judged, lambda answer, one: answer.strip() == one.reference.strip()),
        *compare(PARSES, python, _where_it_goes(lambda place, answer: parses(place.fill(answer)))),
    ]
    if runs is None:
        return scores

    def passes(place: CodePlace, answer: str) -> bool:
        return bool(place.test) and runs(f"{place.fill(answer)}\n\n{place.test}")

    tested = [one for one, place in placed if passes(place, one.reference)]
    return [*scores, *compare(PASS_AT_1, tested, _where_it_goes(passes))]


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


def _where_it_goes(measure: Callable[[CodePlace, str], bool]) -> Callable[[str, Judged], float]:
    return lambda answer, one: one.place is not None and measure(one.place, answer)
