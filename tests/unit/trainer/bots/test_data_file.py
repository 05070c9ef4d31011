"""What a file that nobody declared holds."""

from pathlib import Path

import pytest

from trainer_svc.bots.data_file import DataFile
from trainer_svc.bots.kinds import BotKind
from trainer_svc.bots.limits import DataLimits

TURN = '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]'


@pytest.mark.parametrize(
    ("name", "first_line", "kind", "layout"),
    [
        ("a.csv", "question,answer", BotKind.FAQ, "FAQ_CSV"),
        ("a.tsv", "question\tanswer", BotKind.FAQ, "FAQ_TSV"),
        ("a.tar.gz", "", BotKind.CODE_COMPLETION, "CODE_TAR"),
        ("a.jsonl", '{"question": "Why?", "answer": "So."}', BotKind.FAQ, "FAQ_JSONL"),
        ("a.jsonl", f'{{"messages": {TURN}}}', BotKind.SUPPORT, "CONVERSATION_JSONL"),
        ("a.jsonl", '{"prompt": [], "chosen": "a", "rejected": "b"}', BotKind.SUPPORT, "PREFERENCE_JSONL"),
        ("a.jsonl", '{"path": "a.py", "content": "x = 1\\n"}', BotKind.CODE_COMPLETION, "CODE_JSONL"),
        (
            "a.jsonl",
            '{"prompt": "def f():", "canonical_solution": "...", "test": ""}',
            BotKind.CODE_COMPLETION,
            "CODE_JSONL",
        ),
        ("a.jsonl", "no json", BotKind.FAQ, "FAQ_JSONL"),
    ],
)
def test_a_file_is_told_by_its_ending_and_its_first_line(
    name: str, first_line: str, kind: BotKind, layout: str, tmp_path: Path
) -> None:
    """Tasks with tests are code as files are; what is nothing of all is left to the judge of FAQs to refuse."""
    file = tmp_path / name
    file.write_text(f"{first_line}\n")
    data = DataFile.guess(file, DataLimits(), field="--data")

    assert (data.kind, data.format.value) == (kind, layout)
