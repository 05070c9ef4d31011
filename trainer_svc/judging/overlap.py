"""Token F1: how far an answer and its reference use the same words."""

from collections import Counter

from trainer_svc.judging.text import split_tokens


def score_token_f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall over tokens, as SQuAD's evaluation has it (Rajpurkar et al. 2016); 0 to 1.

    Two texts without any token are equal.
    """
    ours, theirs = split_tokens(answer), split_tokens(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    num_common = (Counter(ours) & Counter(theirs)).total()
    return 2 * num_common / (len(ours) + len(theirs))
