"""Judges a whole dataset of any format in one pass: what it holds, and everything in it that is worth a look, by line.

Memory is bounded by the limits, about 700 bytes a row: of no entry the text is kept.
"""

from array import array
from typing import BinaryIO

from trainer_svc.bots.code_task import CodeTask
from trainer_svc.bots.entry import Entry
from trainer_svc.bots.formats import layout_of
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.lengths import LengthCount, TokenRuler, UnrenderableRow
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.personal_data import PersonalData, find_personal_data
from trainer_svc.bots.recipe import DataSize
from trainer_svc.bots.report import DatasetReport, ProblemLog
from trainer_svc.bots.row import HeldOut
from trainer_svc.bots.row_index import RowIndex
from trainer_svc.bots.scripts import ScriptCount
from trainer_svc.bots.sketches import SIMILARITY
from trainer_svc.bots.teaching import teaching_of

_MIN_ROWS = 2
_PERSONAL_SENTENCES = {
    PersonalData.EMAIL: "what looks like an e-mail address",
    PersonalData.PHONE: "what looks like a telephone number",
    PersonalData.CARD: "a number with the check digit of a payment card",
    PersonalData.IBAN: "a number with the check digits of an IBAN",
}


def judge_dataset(
    file: BinaryIO, kind: BotKind, dataset_format: DatasetFormat, limits: DataLimits, ruler: TokenRuler | None
) -> DatasetReport:
    """Read a whole file and report on it; without a ruler no tokens are counted. Reading stops at the most that is taken."""
    layout = layout_of(dataset_format)
    problems = ProblemLog()
    judge = _Judge(limits, ruler, problems)
    for line, entry in layout.read(file, limits, problems):
        if not judge.has_room(line):
            break
        judge.take(line, entry)
    judge.tell_of_size()
    if kind is BotKind.FAQ and layout.is_trained:
        judge.tell_of_single_wordings()
    judge.tell_of_other_scripts()
    groups = judge.tell_of_duplicates(layout.duplicate_reason)
    if layout.is_trained and judge.index.num_rows >= _MIN_ROWS:
        recipe = teaching_of(kind).choose_recipe(DataSize(judge.index.num_rows))
        held_out = teaching_of(kind).hold_out(judge.index, share=recipe.held_out_share, seed=recipe.training.seed)
        judge.tell_of_overlap(groups, held_out)
    return judge.make_report()


class _Judge:
    """Takes entries one by one and tells what is wrong with them."""

    def __init__(self, limits: DataLimits, ruler: TokenRuler | None, problems: ProblemLog) -> None:
        self._limits = limits
        self._ruler = ruler
        self._problems = problems
        self._lengths = LengthCount(ruler.base_model if ruler else "")
        self._lines = array("q")  # of each entry
        self._scripts = ScriptCount()
        self._num_tests = 0
        self.index = RowIndex()

    def has_room(self, line: int) -> bool:
        """Tell whether one more entry is taken, and why not."""
        for count, limit, what in (
            (self.index.num_entries, self._limits.max_entries, "entries"),
            (self.index.num_rows, self._limits.max_rows, "rows"),
            (self._lengths.num_tokens, self._limits.max_tokens, "tokens"),
        ):
            if count >= limit:
                sentence = f"more than {limit} {what}; split the data over several datasets"
                self._problems.add_error(line, f"TOO_MANY_{what.upper()}", sentence)
                return False
        return True

    def take(self, line: int, entry: Entry) -> None:
        """Count an entry and look at its texts."""
        self._lines.append(line)
        self._num_tests += isinstance(entry, CodeTask)
        self.index.add(entry)
        self._scripts.add(max(entry.texts, key=len))
        self._measure(line, entry)
        found = frozenset[PersonalData]().union(*map(find_personal_data, entry.texts))
        for kind in sorted(found):
            sentence = f"the line holds {_PERSONAL_SENTENCES[kind]}; the bot may tell it to anybody: take it out unless it is public"
            self._problems.add_warning(line, kind.value, sentence)

    def tell_of_size(self) -> None:
        """Refuse data that is too little to learn from and judge by."""
        if self.index.num_entries == 0:
            self._problems.add_error(0, "EMPTY", "the file holds no entry that can be used")
        elif self.index.num_rows < _MIN_ROWS:
            sentence = f"the file makes {self.index.num_rows} row; at least {_MIN_ROWS} are needed, one to learn and one to judge by"
            self._problems.add_error(0, "TOO_FEW_ROWS", sentence)

    def tell_of_single_wordings(self) -> None:
        """Tell of data that can be used how many questions have one wording, of which others are made by rule."""
        if (num_single := self.index.num_single_rows) and not self._problems.has_errors:
            sentence = (
                f"{num_single} of {self.index.num_entries} entries have one wording: they are learned and judged by others that are "
                "made of it by rule, which flatters their scores; add two or more as your users ask"
            )
            self._problems.add_warning(0, "ONE_WORDING", sentence)

    def tell_of_duplicates(self, reason: str) -> list[int]:
        """Tell of rows that another entry has too, the same or nearly; return the group of each row."""
        groups, entries = self.index.group(), self.index.entries
        for row, (entry, first, leader) in enumerate(zip(entries, self.index.firsts, groups, strict=True)):
            if entries[first] != entry:
                sentence = f"the same was in line {self._lines[entries[first]]} already; the two may contradict"
                self._problems.add_warning(self._lines[entry], reason, sentence)
            elif first == row and entries[leader] != entry:
                sentence = f"at least {SIMILARITY:.0%} alike with line {self._lines[entries[leader]]}, or linked to it by others"
                self._problems.add_warning(self._lines[entry], "NEAR_DUPLICATE", sentence)
        return groups

    def tell_of_overlap(self, groups: list[int], held_out: HeldOut) -> None:
        """Tell of rows that a job holds out, unless it is told another seed or share, while it trains on one nearly the same."""
        names = self.index.name_rows()
        trained = {groups[row] for row, name in enumerate(names) if name not in held_out.rows}
        for row, name in enumerate(names):
            if name in held_out.rows and groups[row] in trained:
                sentence = "a row is held out by default to judge by, but one nearly the same is trained on: its score flatters"
                self._problems.add_warning(self._lines[name[0]], "HELD_OUT_OVERLAP", sentence)

    def tell_of_other_scripts(self) -> None:
        """Tell of entries that are written in another script than most."""
        for entry in self._scripts.find_others():
            sentence = "the line is written in another script than most of the data; is it translated?"
            self._problems.add_warning(self._lines[entry], "OTHER_SCRIPT", sentence)

    def make_report(self) -> DatasetReport:
        """Return the report."""
        return self._problems.make_report(
            num_entries=self.index.num_entries,
            num_rows=self.index.num_rows,
            lengths=self._lengths.sum_up(),
            num_tests=self._num_tests,
            num_single_rows=self.index.num_single_rows,
        )

    def _measure(self, line: int, entry: Entry) -> None:
        if self._ruler is None:
            return
        base, max_tokens = self._ruler.base_model, self._ruler.max_tokens
        try:
            for num_tokens in self._ruler.measure(entry):
                self._lengths.add(num_tokens)
                if num_tokens > max_tokens:
                    sentence = (
                        f"a row has {num_tokens} tokens, {base} takes {max_tokens}; it cannot be trained on that base"
                    )
                    self._problems.add_warning(line, "ROW_TOO_LONG", sentence)
        except UnrenderableRow:
            sentence = f"the chat template of {base} refuses the row, as some do where an agent speaks first: it is not learned"
            self._problems.add_warning(line, "ROW_UNRENDERABLE", sentence)
