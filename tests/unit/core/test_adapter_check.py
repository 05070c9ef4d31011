"""The judge of adapter files through its one door, on small folders made by numpy."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptory.core.adapter_check import AdapterLimits, AdapterReport, adapter_digest, check_adapter
from adaptory.core.base_shape import BaseShape
from adaptory.core.errors import AdapterRejected, InvalidRequest
from tests.adapters import (
    TINY_CONFIG,
    read_config,
    read_raw_weights,
    tiny_shape,
    write_adapter,
    write_config,
    write_raw_weights,
)

LIMITS = AdapterLimits()
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def judge(folder: Path, limits: AdapterLimits = LIMITS) -> AdapterReport | str:
    """Return the report, or the reason of the one error that may come out."""
    try:
        return check_adapter(folder, tiny_shape(), limits)
    except AdapterRejected as err:
        return err.reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Hold a good adapter of rank 8 on every linear layer."""
    return write_adapter(tmp_path / "adapter", tiny_shape())


def test_report_says_what_the_adapter_is(folder: Path) -> None:
    """The report of a good adapter has its rank, alpha, modules, and the sizes of its files."""
    report = check_adapter(folder, tiny_shape(), LIMITS)

    assert (report.rank, report.alpha) == (8, 16.0)
    assert report.target_modules == (
        "down_proj",
        "gate_proj",
        "k_proj",
        "o_proj",
        "q_proj",
        "up_proj",
        "v_proj",
    )
    # Per layer r*(in+out): q and o 64+64, k and v 64+32, gate, up and down 64+128.
    assert report.num_parameters == 2 * 8 * (2 * 128 + 2 * 96 + 3 * 192)
    assert report.size_bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_digest_is_that_of_sha256sum(folder: Path) -> None:
    """Anyone can recompute an adapter's digest: `sha256sum` of its two files by name, piped into `sha256sum`."""
    command = ["sha256sum", "adapter_config.json", "adapter_model.safetensors"]
    sums = subprocess.check_output(command, cwd=folder)
    expected = hashlib.sha256(sums).hexdigest()

    assert adapter_digest(folder) == expected
    assert check_adapter(folder, tiny_shape(), LIMITS).digest == expected


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_float_type_of_an_adapter_is_read(dtype: str, tmp_path: Path) -> None:
    """Weights of norm above the limit are seen in each dtype, so each dtype is decoded for what it is."""
    small = write_adapter(tmp_path / "small", tiny_shape(), dtype=dtype)
    large = write_adapter(tmp_path / "large", tiny_shape(), dtype=dtype, weight_scale=20.0)

    assert isinstance(judge(small), AdapterReport)
    assert judge(large) == "NORM_ABOVE_LIMIT"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (AdapterLimits(max_rank=4), "RANK_ABOVE_LIMIT"),
        (AdapterLimits(max_bytes=10_000), "TOO_LARGE"),
        (AdapterLimits(max_header_bytes=100), "HEADER_INVALID"),
        (AdapterLimits(max_tensors=27), "HEADER_INVALID"),
        (AdapterLimits(max_norm=0.1), "NORM_ABOVE_LIMIT"),
    ],
)
def test_each_limit_is_kept(limits: AdapterLimits, reason: str, folder: Path) -> None:
    """An adapter beyond any one limit is rejected by that limit's reason."""
    assert judge(folder, limits) == reason


def test_pipe_is_refused_without_waiting_for_a_writer(folder: Path) -> None:
    """A named pipe in place of the weights is refused at once; opening it must not block."""
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")

    assert judge(folder) == "FOLDER_LAYOUT"


def test_message_quotes_hostile_names(folder: Path) -> None:
    """A name from the file reaches the message as short ASCII, whatever it held."""
    fields, data = read_raw_weights(folder)
    fields["\x1b[2J\u202e" + "x" * 5000] = fields.pop(next(name for name in fields if "lora_A" in name))
    write_raw_weights(folder, json.dumps(fields).encode(), data)

    with pytest.raises(AdapterRejected) as rejected:
        check_adapter(folder, tiny_shape(), LIMITS)

    assert str(rejected.value).isprintable()
    assert len(str(rejected.value)) < 400


@FUZZ
@given(position=st.integers(0, 4000), byte=st.integers(0, 255))
def test_changed_header_byte_never_crashes(position: int, byte: int, folder: Path) -> None:
    """Any one changed byte of prefix or header ends in a verdict, never in another error."""
    weights = folder / "adapter_model.safetensors"
    good = weights.read_bytes()
    raw = bytearray(good)
    raw[position] = byte

    weights.write_bytes(raw)
    verdict = judge(folder)
    weights.write_bytes(good)

    assert isinstance(verdict, AdapterReport | str)


@FUZZ
@given(data=st.data(), value=JSON)
def test_changed_header_field_is_rejected(data: st.DataObject, value: Any, folder: Path) -> None:
    """A field of one tensor set to any other JSON is rejected: the good value is the only one that fits."""
    fields, weights = read_raw_weights(folder)
    name = data.draw(st.sampled_from([name for name in fields if name != "__metadata__"]))
    key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "extra"]))
    is_same = fields[name].get(key, ...) == value

    changed = {**fields, name: {**fields[name], key: value}}
    write_raw_weights(folder, json.dumps(changed).encode(), weights)
    verdict = judge(folder)
    write_raw_weights(folder, json.dumps(fields).encode(), weights)

    assert is_same or verdict in {"HEADER_INVALID", "DTYPE_UNSUPPORTED"}


@FUZZ
@given(data=st.data(), value=JSON)
def test_changed_config_field_never_crashes(data: st.DataObject, value: Any, folder: Path) -> None:
    """A field of the config set to any JSON ends in a verdict, never in another error."""
    config = read_config(folder)
    keys = [
        *config,
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layers_pattern",
        "exclude_modules",
    ]
    key = data.draw(st.sampled_from(keys))

    write_config(folder, {**config, key: value})
    verdict = judge(folder)
    write_config(folder, config)

    assert isinstance(verdict, AdapterReport | str)


@FUZZ
@given(raw=st.binary(max_size=300), name=st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
def test_random_file_is_rejected(raw: bytes, name: str, folder: Path) -> None:
    """Random bytes in place of either file are rejected."""
    good = (folder / name).read_bytes()

    (folder / name).write_bytes(raw)
    verdict = judge(folder)
    (folder / name).write_bytes(good)

    assert verdict in {"CONFIG_INVALID", "UNSUPPORTED_FEATURE", "HEADER_INVALID"}


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "gpt2"}, {"hidden_size": None}, {"num_hidden_layers": 0}, {"vocab_size": True}],
)
def test_unknown_base_is_refused(changes: dict[str, object]) -> None:
    """A base of no known architecture, or with a size missing, is refused before any adapter is judged on it."""
    with pytest.raises(InvalidRequest):
        BaseShape.from_config({**TINY_CONFIG, **changes})
