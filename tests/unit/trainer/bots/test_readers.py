"""Every reader against bytes that nobody vouches for: a report comes back, it quotes nothing, and memory stays bounded."""

import io
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.trainer.bots.judging import jsonl, judge, talk
from trainer_svc.bots.formats import layout_of
from trainer_svc.bots.kinds import DatasetFormat
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import LineProblem, NoProblems

SECRET = "the safe opens at noon"
LIMITS = DataLimits(max_line_bytes=300, max_entries=20, max_rows=40)
SAMPLES = {
    DatasetFormat.FAQ_JSONL: jsonl([{"question": "When?", "answer": SECRET, "wordings": ["At what time?"]}] * 2),
    DatasetFormat.FAQ_CSV: f'question,answer,wordings\nWhen?,"{SECRET}\n",a|b\nWho?,He.,\n'.encode(),
    DatasetFormat.FAQ_TSV: f"question\tanswer\nWhen?\t{SECRET}\nWho?\tHe.\n".encode(),
    DatasetFormat.CONVERSATION_JSONL: jsonl([talk("When?", SECRET, "Thanks!", "Bye.")] * 2),
    DatasetFormat.PREFERENCE_JSONL: jsonl(
        [{"prompt": talk("When?")["messages"], "chosen": SECRET, "rejected": "Dunno."}] * 2
    ),
    DatasetFormat.CODE_JSONL: jsonl(
        [
            {"path": "a.py", "content": f"x = '{SECRET}'\n"},
            {"prompt": "def f():\n", "canonical_solution": "    return 1", "test": f"assert f(), '{SECRET}'"},
        ]
    ),
}
# What such files are made of, and what breaks parsers.
_marks = st.sampled_from(
    [b'"', b'""', b"\n", b"\r", b",", b"\t", b"|", b"{", b"}", b"[", b"]", b":", b"\\", b"\0", b"\xff"]
)
_words = st.sampled_from(
    [b'"role"', b'"content"', b'"messages"', b'"question"', b'"test"', b"null", b"1e999", b"NaN", b"\\ud800"]
)
_giants = st.sampled_from([b"9" * 5000, b"[" * 400, b"\xef\xbb\xbf"])
noise = st.lists(st.one_of(_marks, _words, _giants, st.binary(max_size=20)), max_size=12).map(b"".join)
formats = pytest.mark.parametrize("layout", list(SAMPLES))


@formats
@given(data=st.data())
def test_no_bytes_break_a_reader_or_are_told(layout: DatasetFormat, data: st.DataObject) -> None:
    """A good file with anything anywhere in it gives a report, and no report quotes the file."""
    sample = SAMPLES[layout]
    cut = data.draw(st.integers(0, len(sample)))
    report = judge(sample[:cut] + data.draw(noise) + sample[cut:], layout, LIMITS)

    assert SECRET not in str(report)
    assert report.is_usable == (report.num_errors == 0)


@formats
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_with_a_line(layout: DatasetFormat, data: bytes) -> None:
    """Reading for a job raises nothing but LineProblem."""
    entries = []
    with suppress(LineProblem):
        entries += layout_of(layout).read(io.BytesIO(data), LIMITS, NoProblems())

    assert all(line >= 1 and entry.keys for line, entry in entries)


@formats
def test_a_judged_file_is_read_alike(layout: DatasetFormat) -> None:
    """What a report counts is what a job will read."""
    report = judge(SAMPLES[layout], layout)

    entries = list(layout_of(layout).read(io.BytesIO(SAMPLES[layout]), DataLimits(), NoProblems()))
    assert (report.num_entries, report.num_rows) == (len(entries), sum(len(entry.keys) for _, entry in entries))
    assert report.is_usable


class _Endless(io.RawIOBase):
    """So many bytes of one piece over and over, none of which is ever held."""

    def __init__(self, piece: bytes, num_bytes: int) -> None:
        """Begin at the first byte."""
        super().__init__()
        self._piece = piece
        self._left = num_bytes

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray) -> int:
        """Fill a buffer."""
        num_bytes = min(len(buffer), self._left)
        repeated = self._piece * (num_bytes // len(self._piece) + 1)
        buffer[:num_bytes] = repeated[:num_bytes]
        self._left -= num_bytes
        return num_bytes


# A line of code holds a whole file, so it may be longer than all these.
@pytest.mark.parametrize("layout", [layout for layout in SAMPLES if layout is not DatasetFormat.CODE_JSONL])
@pytest.mark.parametrize("piece", [b"x", b'"', b'{"', b"[", b"\n", b","], ids=repr)
def test_memory_stays_bounded(layout: DatasetFormat, piece: bytes) -> None:
    """64 KiB of one giant line, of open quotes, or of blank lines take a small part of that."""
    limits = DataLimits(max_line_bytes=1024)
    file = io.BufferedReader(_Endless(piece, 64 * 1024))
    problems = _Count()
    tracemalloc.start()
    try:
        for _ in layout_of(layout).read(file, limits, problems):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 32 * 1024


class _Count:
    """Counts problems and keeps none."""

    def __init__(self) -> None:
        self.num_problems = 0

    def add_error(self, line: int, reason: str, description: str) -> None:
        """Count it."""
        self.num_problems += 1

    def add_warning(self, line: int, reason: str, description: str) -> None:
        """Count it."""
        self.num_problems += 1
