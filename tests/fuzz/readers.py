"""Feeds the dataset readers what libFuzzer makes: `python -m tests.fuzz.readers CORPUS_DIR [-runs=N] [-max_total_time=SECONDS]`.

The first byte of an input is the place of a format in `DatasetFormat`, the others are the file. Inputs that reach new lines of the
readers are kept in the folder; one that breaks a promise of theirs is left in a file named crash-*, and the program ends with 77.
"""

import io
import resource
import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["trainer_svc.bots"]):
    from trainer_svc.bots.adapter_archive import judge_archive
    from trainer_svc.bots.formats import layout_of
    from trainer_svc.bots.inspection import judge_dataset
    from trainer_svc.bots.kinds import BotKind, DatasetFormat
    from trainer_svc.bots.limits import DataLimits
    from trainer_svc.bots.problem import LineProblem, NoProblems

_KINDS = {
    DatasetFormat.CONVERSATION_JSONL: BotKind.SUPPORT,
    DatasetFormat.PREFERENCE_JSONL: BotKind.SUPPORT,
    DatasetFormat.CODE_JSONL: BotKind.CODE_COMPLETION,
    DatasetFormat.CODE_TAR: BotKind.CODE_COMPLETION,
}
_FORMATS = tuple(DatasetFormat)
_MAX_BYTES = 1 << 29
_LIMITS = DataLimits(max_line_bytes=2_000, max_entries=50, max_rows=100)


def main() -> None:
    """Fuzz until the options say to stop, or something breaks."""
    # libFuzzer's own limit counts the peak of whoever started this process, too.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_BYTES, hard))
    atheris.Setup([*sys.argv, "-rss_limit_mb=0"], read_any)
    atheris.Fuzz()


def read_any(data: bytes) -> None:
    """Judge and read one file, as an upload is and as a job does. Raises AssertionError where the readers' promises are broken."""
    if not data:
        return
    dataset_format, file = _FORMATS[data[0] % len(_FORMATS)], data[1:]
    if not dataset_format.is_data:
        report = judge_archive(io.BytesIO(file))
        assert report.is_usable == (report.num_errors == 0)
        return
    kind = _KINDS.get(dataset_format, BotKind.FAQ)
    report = judge_dataset(io.BytesIO(file), kind, dataset_format, _LIMITS, None)
    assert report.is_usable == (report.num_errors == 0)
    entries = []
    with suppress(LineProblem):
        entries += layout_of(dataset_format).read(io.BytesIO(file), _LIMITS, NoProblems())
    assert all(line >= 1 and entry.keys for line, entry in entries)
    if report.is_usable:
        assert len(entries) >= report.num_entries


if __name__ == "__main__":
    main()
