"""Texts that are nearly the same."""

from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.bots.sketches import SIMILARITY, Sketches

WORDS = [
    "lamp",
    "desk",
    "broken",
    "cat",
    "would",
    "like",
    "another",
    "soon",
    "please",
    "send",
    "it",
    "a",
    "our",
    "the",
    "on",
]
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join)


def group(*texts: str) -> list[int]:
    """Return the group of each text."""
    sketches = Sketches()
    for text in texts:
        sketches.add(text)
    return sketches.group()


def resemblance(left: str, right: str) -> float:
    """Return the Jaccard similarity of the runs of five characters, counted one by one."""
    first, second = ({text[place : place + 5] for place in range(max(1, len(text) - 4))} for text in (left, right))
    return len(first & second) / len(first | second)


@given(sentences, sentences)
def test_alike_is_what_the_runs_in_common_say(left: str, right: str) -> None:
    """Well above the threshold two texts are one group, well below they are not: the estimate's error is 0.05."""
    exact = resemblance(left, right)
    is_grouped = group(left, right)[1] == 0

    if exact > SIMILARITY + 0.2 or left == right:
        assert is_grouped
    if exact < SIMILARITY - 0.2:
        assert not is_grouped


@given(st.text(max_size=50))
def test_case_width_and_spaces_do_not_matter(text: str) -> None:
    """A text is one group with itself written otherwise."""
    assert group(text, f"  {text.upper()} \n") == [0, 0]


def test_the_same_texts_give_the_same_groups() -> None:
    """Nothing depends on chance: a split that is made twice is the same split."""
    texts = [f"{' '.join(WORDS)} {place % 3}" for place in range(9)]

    assert group(*texts) == group(*texts)


def test_a_thousand_copies_are_one_group() -> None:
    """Many copies cost no pairs among themselves."""
    assert set(group(*["Thank you for calling."] * 1000, "Something else altogether, at length.")) == {0, 1000}


def test_texts_apart_are_never_alike() -> None:
    """What sets texts apart does so however much they have in common."""
    sketches = Sketches()
    for number in ("1", "2", "1"):
        sketches.add(f"What is the code of door {number}?", apart=number)

    assert sketches.group() == [0, 1, 0]


def test_no_texts_are_no_groups() -> None:
    """An empty dataset is grouped, too."""
    assert group() == []
