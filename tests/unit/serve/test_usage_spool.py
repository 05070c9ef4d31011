"""The file of what was counted, whatever crashes: hypothesis picks when the process dies and what the registry answers."""

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adaptory.core.names import VersionName
from adaptory.core.usage import COUNTS, UsageCounts, UsageKey, add_usage
from serve_svc.usage.spool import UsageReport, UsageSpool

keys = st.builds(
    UsageKey,
    st.builds(VersionName, st.just("acme"), st.sampled_from(["faq", "desk"]), st.integers(0, 2)),
    st.sampled_from(["2026-01-31", "2026-02-01"]),
)
counts = st.builds(UsageCounts, **{name: st.integers(1, 9) for name in COUNTS})
usages = st.dictionaries(keys, counts, min_size=1, max_size=3)
ACME = UsageKey(VersionName("acme", "faq", 1), "2026-01-31")
ONE = UsageCounts(num_requests=1)


class SpoolHistory(RuleBasedStateMachine):
    """Records, reports, lost answers and crashes in any order. What was written is in the registry or in the file, and once."""

    def __init__(self) -> None:
        """Begin with an empty folder, and a registry that knows each report by server and number."""
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "usage.spool"
        self.spool = UsageSpool(self.path)
        self.taken: dict[tuple[str, int], dict[UsageKey, UsageCounts]] = {}
        self.written: dict[UsageKey, UsageCounts] = {}

    @rule(usage=usages)
    def keep(self, usage: dict[UsageKey, UsageCounts]) -> None:
        """Some requests end, and are written."""
        self.spool.keep(usage)
        add_usage(self.written, usage)

    @rule(usage=usages, share=st.floats(0, 1))
    def die_while_writing(self, usage: dict[UsageKey, UsageCounts], share: float) -> None:
        """The process is killed amid a line; one that is whole on disk counts."""
        before = self._measure()
        self.spool.keep(usage)
        if self._cut(before, share):
            add_usage(self.written, usage)
        self._start_again()

    @rule(is_answer_lost=st.booleans())
    def report(self, *, is_answer_lost: bool) -> None:
        """The registry takes a report, which comes again when its answer is lost."""
        report = self.spool.seal()
        if report:
            self._take(report)
            if not is_answer_lost:
                self.spool.settle(report)

    @rule(share=st.floats(0, 1))
    def die_before_a_report_is_sent(self, share: float) -> None:
        """What was to be told is told later."""
        before = self._measure()
        self.spool.seal()
        self._cut(before, share)
        self._start_again()

    @rule(share=st.floats(0, 1))
    def die_after_a_report_was_taken(self, share: float) -> None:
        """That it was taken may be forgotten: nothing waits for the disk then."""
        if report := self.spool.seal():
            self._take(report)
            before = self._measure()
            self.spool.settle(report)
            self._cut(before, share)
        self._start_again()

    @rule()
    def rename(self) -> None:
        """The registry was never told of what is kept, as when another server reports under the same name."""
        if report := self.spool.seal():
            self.taken.setdefault((report.server, report.sequence), {})
            if self.taken[report.server, report.sequence] != report.usage:
                self.spool.rename_server()

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        """What the registry has, and what it is yet to have, are together what was written."""
        found: dict[UsageKey, UsageCounts] = {}
        for usage in self.taken.values():
            add_usage(found, usage)
        report = self.spool._kept.report
        is_taken = report is not None and (report.server, report.sequence) in self.taken
        add_usage(found, self.spool._kept.usage if is_taken else self.spool.unreported)
        assert found == self.written

    def teardown(self) -> None:
        """Remove the folder."""
        self.folder.cleanup()

    def _take(self, report: UsageReport) -> None:
        usage = self.taken.setdefault((report.server, report.sequence), dict(report.usage))
        assert usage == report.usage

    def _measure(self) -> tuple[int, int]:
        if not self.path.exists():
            return 0, 0
        status = self.path.stat()
        return status.st_ino, status.st_size

    def _cut(self, before: tuple[int, int], share: float) -> bool:
        """Let the file have that share only of what was appended; one that was replaced is whole. Tell whether all is there."""
        inode, size = self._measure()
        if (inode, size) == before or inode != before[0]:
            return True
        num_left = round((size - before[1]) * share)
        os.truncate(self.path, before[1] + num_left)
        return num_left >= size - before[1] - 1  # without its line end a line is as good

    def _start_again(self) -> None:
        self.spool = UsageSpool(self.path)
        self.spool.load()


TestSpoolHistory = SpoolHistory.TestCase
TestSpoolHistory.settings = settings(max_examples=20, stateful_step_count=12)


def test_a_disk_that_refuses_costs_nothing(tmp_path: Path) -> None:
    """What it did not take is written by the next call that it does take, and no report is sent meanwhile."""
    folder = tmp_path / "state"
    folder.write_text("where a folder should be")
    spool = UsageSpool(folder / "usage.spool")
    refused = []
    for work in (lambda: spool.keep({ACME: ONE}), spool.seal, spool.seal):
        try:
            work()
        except OSError as error:
            refused.append(error)
    folder.unlink()
    report = spool.seal()
    again = UsageSpool(folder / "usage.spool")
    again.load()

    assert len(refused) == 3
    assert report is not None
    assert report.usage == {ACME: ONE}
    assert again.seal() == report


def test_the_file_stays_small_however_long_the_registry_is_away(tmp_path: Path) -> None:
    """Many lines of one version are two records in the end."""
    spool = UsageSpool(tmp_path / "usage.spool", compact_bytes=2_000)
    spool.keep({ACME: ONE})
    spool.seal()
    for _ in range(60):
        spool.keep({ACME: ONE})

    assert (tmp_path / "usage.spool").stat().st_size < 2_200
    assert spool.unreported == {ACME: UsageCounts(num_requests=61)}


def test_lines_that_the_disk_spoilt_are_left_out(tmp_path: Path) -> None:
    """The others count."""
    file = tmp_path / "usage.spool"
    spool = UsageSpool(file)
    for _ in range(3):
        spool.keep({ACME: ONE})
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:-2], lines[-2].replace(b"1", b"2"), lines[-1]]))
    again = UsageSpool(file)
    again.load()

    assert again.unreported == {ACME: UsageCounts(num_requests=2)}
