"""chrF: how many character n-grams an answer and its reference have in common, which forgives other forms of the same words."""

from collections import Counter

_MAX_ORDER = 6
_BETA = 2


def score_chrf(answer: str, reference: str) -> float:
    """Return chrF2, 0 to 1: n-grams of 1 to 6 characters, white space left out, recall twice as important as precision.

    As Popović 2015 defines it and sacrebleu computes it for one sentence: precision and recall are averaged over the orders that both
    texts have n-grams of.
    """
    ours, theirs = "".join(answer.split()), "".join(reference.split())
    orders = range(1, min(_MAX_ORDER, len(ours), len(theirs)) + 1)
    if not orders:
        return 0.0
    precision = recall = 0.0
    for order in orders:
        ngrams, wanted = _count_ngrams(ours, order), _count_ngrams(theirs, order)
        num_common = (ngrams & wanted).total()
        precision += num_common / ngrams.total() / len(orders)
        recall += num_common / wanted.total() / len(orders)
    weighed = _BETA**2 * precision + recall
    return (1 + _BETA**2) * precision * recall / weighed if weighed else 0.0


def _count_ngrams(text: str, order: int) -> Counter[str]:
    return Counter(text[begin : begin + order] for begin in range(len(text) - order + 1))
