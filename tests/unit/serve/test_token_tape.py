"""Tokens come beside their text, whatever becomes of the text."""

from hypothesis import given
from hypothesis import strategies as st

from serve_svc.engine.engine import GeneratedToken
from serve_svc.token_tape import TokenTape

texts = st.lists(st.text("ab", max_size=3), max_size=8)


def tokens(words: list[str]) -> list[GeneratedToken]:
    """Return a token for each word."""
    return [GeneratedToken(word, -1.0) for word in words]


@given(texts, st.data())
def test_each_token_that_begins_in_what_is_sent_comes_once_and_in_order(words: list[str], data: st.DataObject) -> None:
    """However the text is cut into pieces, and wherever it ends."""
    tape, whole = TokenTape(), "".join(words)
    tape.add(tokens(words))
    num_sent, told = data.draw(st.integers(0, len(whole))), []

    left = num_sent
    while left:
        step = data.draw(st.integers(1, left))
        told += tape.take(step)
        left -= step

    begins = [len("".join(words[:place])) for place in range(len(words))]
    assert told == [token for token, begin in zip(tokens(words), begins, strict=True) if begin < num_sent]


def test_what_is_not_sent_at_the_beginning_takes_its_tokens_along() -> None:
    """A token that ends within it is dropped; one that goes on behind it is told."""
    tape = TokenTape()
    tape.add(tokens(["ab", "cd", "ef"]))

    tape.skip(3)

    assert [token.text for token in tape.take(1)] == ["cd"]
    assert [token.text for token in tape.take(1)] == ["ef"]


def test_tokens_may_be_told_before_their_text_comes() -> None:
    """Text that is held back holds its tokens back; what never comes was never told."""
    tape = TokenTape()
    tape.add(tokens(["a", "b"]))
    told = [tape.take(1)]
    tape.add(tokens(["</end>"]))
    told.append(tape.take(1))
    told.append(tape.take(0))

    assert [[token.text for token in piece] for piece in told] == [["a"], ["b"], []]
