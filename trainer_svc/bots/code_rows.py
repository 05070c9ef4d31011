"""Cuts source files into rows of prefix, middle and suffix, the same every time for one seed and one file.

A cut falls on characters, on lines, or on a node of the syntax tree, in turn, and rows go half in prefix-suffix-middle and half in
suffix-prefix-middle, where the base knows both. Characters teach a base to go on from the midst of a word, as a cursor stands
(Bavarian et al. 2022, arXiv 2207.14255, section 4: cuts at random characters make infilling robust); lines and nodes are what people
ask for. A row is made to fit: the middle is chosen short enough, and the context is trimmed by the rule that serving trims by.
"""

import enum
import hashlib
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from adaptory.core.code_stop import StopAt
from adaptory.core.fim import FimRenderer, FimRow
from adaptory.core.fim_families import Order
from trainer_svc.bots.code_file import CodeFile
from trainer_svc.bots.code_task import CodeTask
from trainer_svc.bots.row import CodeRow, HeldOut
from trainer_svc.bots.syntax import Grammars


class Cut(enum.Enum):
    """Where a middle begins and ends."""

    CHARACTERS = "characters"
    LINES = "lines"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class CutSettings:
    """How files are cut.

    A row has at most `max_row_tokens`, its middle at most `max_middle_tokens`. A file gives a row for each `tokens_per_row` tokens of
    its text, at least one.
    """

    max_row_tokens: int
    max_middle_tokens: int
    tokens_per_row: int
    seed: int = 0


# A middle of so many characters may fit; whether it does is counted in tokens.
_MAX_CHARS_PER_TOKEN = 6
_MAX_LINES = 8
# Shorter middles say little, and teach above all to stop: in a base that is not sure what comes, the token that ends every row wins.
_MIN_CHARS = 8
# How many of the lines that are judged by are asked whole.
_WHOLE_SHARE = 0.5
# A file of blanks and brackets may have no place for a middle; then fewer rows come of it.
_MAX_TRIES = 8


class RowCutter:
    """Cuts files for one base."""

    def __init__(self, renderer: FimRenderer, settings: CutSettings) -> None:
        """Count by the base's renderer. Raises ValueError when a row cannot hold a middle and as much context."""
        self._renderer = renderer
        self._settings = settings
        self._grammars = Grammars()
        self._max_middle_chars = _MAX_CHARS_PER_TOKEN * settings.max_middle_tokens
        # One for the space that SentencePiece puts before a prefix.
        self._max_text_tokens = settings.max_row_tokens - renderer.count_form_tokens() - 1
        if self._max_text_tokens < 2 * settings.max_middle_tokens:
            message = (
                f"rows of {settings.max_row_tokens} tokens leave {self._max_text_tokens} for text; at least "
                f"{2 * settings.max_middle_tokens} are needed, twice the longest middle"
            )
            raise ValueError(message)

    def cut(self, file: CodeFile) -> Iterator[FimRow]:
        """Yield the rows of a file; the parts of each, joined, are a window of the file's text."""
        chance = _seed_chance(self._settings.seed, file)
        num_rows = max(1, self._renderer.count_tokens(file.content) // self._settings.tokens_per_row)
        nodes = self._grammars.find_nodes(file.path, file.content, self._max_middle_chars)
        nodes = [(begin, end) for begin, end in nodes if end - begin >= _MIN_CHARS]
        cuts = [Cut.CHARACTERS, Cut.LINES, *([Cut.NODE] if nodes else [])]
        first_cut = chance.randrange(len(cuts))
        spans: dict[tuple[int, int], None] = {}
        for number in range(num_rows):
            cut = cuts[(first_cut + number) % len(cuts)]
            if (span := self._choose_span(file.content, cut, nodes, spans, chance)) is not None:
                spans[span] = None
        known = self._renderer.orders
        orders = [known[number % len(known)] for number in range(len(spans))]
        chance.shuffle(orders)
        for (begin, end), order in zip(spans, orders, strict=True):
            yield self._make_row(file.content, begin, end, order)

    def ask(self, file: CodeFile) -> Iterator[FimRow]:
        """Yield rows to judge by: rests of lines, as whoever types asks for them, in the order that is served.

        A line is asked from behind its indentation, or from some place in it, and so that what is left of it is no longer than the
        longest middle. As many lines as `cut` makes rows, at most, and only short ones where there are no others.
        """
        chance = _seed_chance(self._settings.seed, file)
        num_rows = max(1, self._renderer.count_tokens(file.content) // self._settings.tokens_per_row)
        lines = [(begin, end) for begin, end in _find_lines(file.content) if end - begin >= _MIN_CHARS]
        lines = lines or list(_find_lines(file.content))
        for begin, end in sorted(chance.sample(lines, min(len(lines), num_rows))):
            start = begin if chance.random() < _WHOLE_SHARE else chance.randrange(begin, end - (end - begin) // 3)
            while not self._is_short(file.content[start:end]):
                start = (start + end) // 2
            yield self._make_row(file.content, start, end, self._renderer.served_order)

    def take_whole(self, task: CodeTask) -> FimRow | None:
        """Return a task as one row, its solution the middle, as it is asked when it is served; None where that is too long."""
        row = FimRow(task.prompt, task.solution, task.suffix, self._renderer.served_order)
        is_short = len(self._renderer.render_row(row).ids) <= self._settings.max_row_tokens
        return row if is_short else None

    def _choose_span(
        self,
        content: str,
        cut: Cut,
        nodes: Sequence[tuple[int, int]],
        taken: Collection[tuple[int, int]],
        chance: random.Random,
    ) -> tuple[int, int] | None:
        for _ in range(_MAX_TRIES):
            match cut:
                case Cut.CHARACTERS:
                    span = _choose_characters(content, self._max_middle_chars, chance)
                case Cut.LINES:
                    span = _choose_lines(content, chance)
                case Cut.NODE:
                    span = chance.choice(nodes)
            middle = content[slice(*span)]
            if (
                span not in taken
                and middle.strip()
                and len(middle) <= self._max_middle_chars
                and self._is_short(middle)
            ):
                return span
        return None

    def _is_short(self, middle: str) -> bool:
        return self._renderer.count_tokens(middle) <= self._settings.max_middle_tokens

    def _make_row(self, content: str, begin: int, end: int, order: Order) -> FimRow:
        middle = content[begin:end]
        room = self._max_text_tokens - self._renderer.count_tokens(middle)
        context = self._renderer.fit_context(content[:begin], content[end:], room)
        return FimRow(context.prefix, middle, context.suffix, order)


def make_code_rows(sources: Iterable[CodeFile | CodeTask], held_out: HeldOut, cutter: RowCutter) -> Iterator[CodeRow]:
    """Yield the rows of every file and task, in the order of the data; those of a file held out are all held out, and ask for lines.

    A task that is too long for one row is cut as a file is, and its test is not run: nobody would have seen the whole prompt.
    """
    for place, source in enumerate(sources):
        is_held_out = (place, 0) in held_out.rows
        if isinstance(source, CodeTask) and (whole := cutter.take_whole(source)) is not None:
            yield CodeRow(whole, is_held_out, source.test)
            continue
        file = source.to_file() if isinstance(source, CodeTask) else source
        if is_held_out:
            yield from (CodeRow(row, is_held_out, stop_at=StopAt.LINE) for row in cutter.ask(file))
        else:
            yield from (CodeRow(row, is_held_out) for row in cutter.cut(file))


def _choose_characters(content: str, max_chars: int, chance: random.Random) -> tuple[int, int]:
    """Choose a place, and a length that is as likely between 8 and 16 characters as between 64 and 128."""
    begin = chance.randrange(len(content))
    longest = max(1.0, max_chars / _MIN_CHARS)
    return begin, min(len(content), begin + round(_MIN_CHARS * longest ** chance.random()))


def _choose_lines(content: str, chance: random.Random) -> tuple[int, int]:
    """Choose a line or a few, most often one: whole, from behind its indentation, or what is left of it at some place."""
    begin = content.rfind("\n", 0, chance.randrange(len(content))) + 1
    end = begin - 1
    for _ in range(min(_MAX_LINES, 1 + int(chance.expovariate(1.0)))):
        following = content.find("\n", end + 1)
        end = len(content) if following < 0 else following
        if following < 0:
            break
    first = content[begin:end].partition("\n")[0]
    indentation = len(first) - len(first.lstrip())
    match chance.randrange(3):
        case 0:
            return begin, end
        case 1:
            return begin + indentation, end
        case _:
            return begin + chance.randint(indentation, max(indentation, len(first) - 1)), end


def _find_lines(content: str) -> Iterator[tuple[int, int]]:
    """Yield where the text of each line begins, behind its indentation, and ends; blank lines have none."""
    end = -1
    for line in content.split("\n"):
        begin, end = end + 1, end + 1 + len(line)
        if line.strip():
            yield begin + len(line) - len(line.lstrip()), begin + len(line.rstrip())


def _seed_chance(seed: int, file: CodeFile) -> random.Random:
    """Return what chooses for one file, whatever other files there are."""
    return random.Random(_digest(str(seed), file.path, file.content))  # noqa: S311 - to be repeatable, not secret


def _digest(*texts: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode("utf-8")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.digest()
