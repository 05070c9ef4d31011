"""The normal form of an adapter: what came from elsewhere, written as a version that was trained here is."""

import os
from dataclasses import dataclass
from pathlib import Path

from adaptory.core.adapter_check import CONFIG_FILE, WEIGHTS_FILE, AdapterLimits, AdapterReport, check_adapter
from adaptory.core.base_model import PreparedBase
from adaptory.core.safetensors_header import TensorEntry, read_header
from trainer_svc.importing.config import NormalConfig, normalise_config
from trainer_svc.importing.tensor_names import read_names
from trainer_svc.importing.weights import write_weights

_SERVED_DTYPE = "BF16"


@dataclass(frozen=True, slots=True)
class NormalForm:
    """What the judge found of the files written, their config, the config as it came, and what was changed, a sentence each."""

    report: AdapterReport
    config: NormalConfig
    original_config: str
    changes: tuple[str, ...]


def write_normal_form(source: Path, target: Path, base: PreparedBase, limits: AdapterLimits) -> NormalForm:
    """Read the two files of `source` and write them into the empty folder `target`, fit to be served on this base.

    Raises AdapterRejected for everything that is not, by the reasons of `check_adapter`, and FOREIGN_LAYOUT, EMBEDDINGS_CHANGED.
    """
    raw_config = (source / CONFIG_FILE).read_bytes()
    descriptor = os.open(source / WEIGHTS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        tensors = read_header(descriptor, max_header_bytes=limits.max_header_bytes, max_tensors=limits.max_tensors)
        names = read_names(tensors)
        # The config first: where it says what the adapter is, that is the better reason.
        config = normalise_config(raw_config, names.modules, base.shape.linear_shapes().keys())
        names.require_placed()
        renamed = {names.renamed[name]: tensor for name, tensor in tensors.items()}
        (target / CONFIG_FILE).write_bytes(config.to_json(base.name))
        write_weights(descriptor, renamed, target / WEIGHTS_FILE)
    finally:
        os.close(descriptor)
    report = check_adapter(target, base.shape, limits)
    changes = (*config.changes, *names.changes, *_tell_rounding(tensors))
    return NormalForm(report, config, raw_config.decode(), changes)


def _tell_rounding(tensors: dict[str, TensorEntry]) -> tuple[str, ...]:
    others = sorted({tensor.dtype for tensor in tensors.values()} - {_SERVED_DTYPE})
    return (
        (f"Rounded weights of {' and '.join(others)} to {_SERVED_DTYPE}, in which they are served.",) if others else ()
    )
