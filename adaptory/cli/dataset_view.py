"""How a dataset and the report on it are shown to people."""

from adaptory.cli.output import print_table, say
from adaptory.cli.sizes import format_bytes
from adaptory.registry.v1.dataset_pb2 import Dataset, DatasetReport

_BAR_CHARS = 30


def print_report(dataset: Dataset) -> None:
    """Print what a dataset is, how long its rows are, how often each problem was found, and the lines of the first ones."""
    say(describe(dataset))
    report = dataset.report
    if report.num_rows:
        say(_describe_tokens(report))
    if report.row_lengths:
        longest_bar = max(bucket.num_rows for bucket in report.row_lengths)
        rows = [
            (f"{bucket.max_tokens:,}", f"{bucket.num_rows:,}", "█" * round(_BAR_CHARS * bucket.num_rows / longest_bar))
            for bucket in report.row_lengths
        ]
        print_table("Lengths of rows", ("tokens, at most", "rows", ""), rows)
    if report.num_by_reason:
        counts = sorted(report.num_by_reason.items(), key=lambda counted: -counted[1])
        print_table("Found", ("reason", "times"), [(reason, f"{count:,}") for reason, count in counts])
    if report.num_problems:
        rows = [(str(item.line or "file"), item.reason, item.description) for item in report.problems]
        print_table(f"Problems ({len(rows)} of {report.num_problems:,})", ("line", "reason", "what to do"), rows)


def describe(dataset: Dataset) -> str:
    """Return what a dataset is, in one line."""
    report = dataset.report
    tests = f"{report.num_tests:,} tests, " if report.num_tests else ""
    digest = f", sha256 {dataset.digest}" if dataset.digest else ""
    return (
        f"{dataset.name}: {name_state(dataset)}, {report.num_entries:,} entries, {report.num_rows:,} rows, {tests}"
        f"{format_bytes(dataset.size_bytes)}{digest}"
    )


def name_state(dataset: Dataset) -> str:
    """Return `ready`, `uploading` or `rejected`."""
    return Dataset.State.Name(dataset.state).removeprefix("STATE_").lower()


def _describe_tokens(report: DatasetReport) -> str:
    if not report.base_model:
        return "Tokens were not counted: the trainer has no base prepared to count by; name one with --base."
    return f"{report.num_tokens:,} tokens of {report.base_model}, the longest row has {report.longest_row_tokens:,}."
