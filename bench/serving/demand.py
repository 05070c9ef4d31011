"""What is asked: requests drawn from a seed, so that both sides get the same ones at the same times."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile

BASE = -1
"""The speaker that is the base without an adapter."""

# Answers of nearly one length, since both sides are compared by tokens; some spread keeps streams from ending all at once.
_MIN_TOKENS, _MAX_TOKENS = 24, 40
_SUBJECTS = (
    "a bakery", "a bicycle shop", "a small hotel", "a river ferry", "a public library", "a night train", "a mountain hut",
    "a chess club", "a flower market", "a printing house", "a harbour", "a vineyard", "an observatory", "a toy factory",
    "a swimming pool", "a theatre", "a bus line", "a fire brigade", "a cheese dairy", "a school kitchen",
)  # fmt: skip
_TASKS = (
    "Write a long story about", "Explain step by step how one runs", "Describe in every detail an ordinary day of",
    "List and explain the twenty most important things about", "Write a long letter of praise to the owner of",
    "Tell the whole history of", "Plan the next five years of", "Explain at length what people like about",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: seconds after its phase begins at which it is due, who is to answer, what is asked, and the longest answer."""

    due_s: float
    speaker: int
    question: str
    max_tokens: int


class Zipf:
    """Speakers of whom the k-th is asked in proportion to 1 / k ** exponent; an exponent of 0 asks all alike."""

    def __init__(self, speakers: Sequence[int], exponent: float) -> None:
        self._speakers = speakers
        self._cumulative = list(accumulate(rank**-exponent for rank in range(1, len(speakers) + 1)))

    def draw(self, chance: random.Random) -> int:
        """Return a speaker."""
        return chance.choices(self._speakers, cum_weights=self._cumulative)[0]


def draw_asks(chance: random.Random, speakers: Zipf) -> Iterator[Ask]:
    """Yield requests without end, all due at once."""
    while True:
        yield Ask(0.0, speakers.draw(chance), draw_question(chance), chance.randint(_MIN_TOKENS, _MAX_TOKENS))


def draw_arrivals(chance: random.Random, speakers: Zipf, per_second: float) -> Iterator[Ask]:
    """Yield requests without end, due by a Poisson process of this rate."""
    due_s = 0.0
    for ask in draw_asks(chance, speakers):
        due_s += chance.expovariate(per_second)
        yield Ask(due_s, ask.speaker, ask.question, ask.max_tokens)


def lengthen(chance: random.Random, ask: Ask, num_questions: int) -> Ask:
    """Return the request with so many questions instead of one."""
    return replace(ask, question=" ".join(draw_question(chance) for _ in range(num_questions)))


def draw_flood(chance: random.Random, per_second: Mapping[int, float], seconds: float) -> list[Ask]:
    """Return the requests of speakers who each have a rate of their own, in the order in which they are due."""
    asks = list[Ask]()
    for speaker, rate in per_second.items():
        arrivals = draw_arrivals(chance, Zipf((speaker,), 0), rate)
        asks += takewhile(lambda ask: ask.due_s < seconds, arrivals)
    return sorted(asks, key=lambda ask: ask.due_s)


def draw_question(chance: random.Random) -> str:
    """Return a question that makes the base talk at length; the number makes nearly all of them different."""
    return f"{chance.choice(_TASKS)} {chance.choice(_SUBJECTS)} in the year {chance.randint(1000, 9999)}."


def list_first_words(speakers: Iterable[int], chance: random.Random) -> list[Ask]:
    """Return a request of one token for each of these speakers."""
    return [Ask(0.0, speaker, draw_question(chance), 1) for speaker in speakers]
