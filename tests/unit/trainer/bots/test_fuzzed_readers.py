"""Every reader, driven by a coverage-guided fuzzer for a short while; `tests/fuzz/readers.py` has what it promises."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.trainer.bots.test_code_tree import make_tar
from tests.unit.trainer.bots.test_readers import SAMPLES
from trainer_svc.bots.kinds import DatasetFormat

pytest.importorskip("atheris", reason="atheris has no build for this machine")

REPOSITORY = Path(__file__).parents[4]
NUM_RUNS = 8_000
ADAPTER = make_tar(("a/adapter_config.json", b"{}"), ("a/adapter_model.safetensors", b"x"))
TREE = make_tar(("package/one.py", b"def one():\n    return 1\n"), ("package/.gitignore", b"*.log\n"), ("a.log", b"x"))


def test_no_input_a_fuzzer_makes_breaks_a_reader(tmp_path: Path) -> None:
    """From one good file of each format; an input that takes ten seconds or half a gigabyte breaks it, too."""
    corpus, broken = tmp_path / "corpus", tmp_path / "broken"
    corpus.mkdir()
    broken.mkdir()
    for name, dataset_format, data in (
        *((str(layout), layout, sample) for layout, sample in SAMPLES.items()),
        ("tar", DatasetFormat.CODE_TAR, TREE),
        ("tar.gz", DatasetFormat.CODE_TAR, gzip.compress(TREE)),
        ("adapter", DatasetFormat.ADAPTER_TAR, ADAPTER),
    ):
        (corpus / name).write_bytes(bytes([tuple(DatasetFormat).index(dataset_format)]) + data)
    options = [f"-runs={NUM_RUNS}", "-seed=1", "-max_len=12000", "-timeout=10"]
    command = [sys.executable, "-m", "tests.fuzz.readers", str(corpus), f"-artifact_prefix={broken}/", *options]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr[-2_000:]
    assert f"Done {NUM_RUNS} runs" in ended.stderr
    assert list(broken.iterdir()) == []
