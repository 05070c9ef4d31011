"""What a base's tokenizer puts before any text, which a base trained with it needs: Gemma writes nonsense without its `<bos>`."""

from tokenizers import Tokenizer


def find_opening(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the ids the tokenizer's own post-processor puts before a text; most put none."""
    ids = tokenizer.encode("a").ids
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    place = next((place for place in range(len(ids)) if ids[place : place + len(bare)] == bare), 0)
    return tuple(ids[:place])
