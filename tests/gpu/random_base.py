"""A prepared base of any size with random weights, written straight to disk: made in minutes where a real one cannot be had.

Its parity files have the first layer alone, which is all that training on NF4 reads of them: nobody can serve it.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from adaptory.core.base_model import ORIGINAL, PARITY, BaseFile, BaseManifest, PreparedBase
from trainer_svc.memory.shape import ModelShape
from trainer_svc.worker.imagined import list_tensors
from trainer_svc.worker.prepare.parity import QUANTISATION, round_to_nf4
from trainer_svc.worker.prepare.safetensors_writer import SafetensorsWriter

_SPREAD = 0.02
_FIRST_LAYER = "model.layers.0."


def write_random_base(name: str, config: Mapping[str, object], like: PreparedBase, folder: Path) -> PreparedBase:
    """Write the base into `folder`, with the tokenizer and template of another, and return it."""
    sizes = list_tensors(ModelShape.from_config(config))
    for part in (ORIGINAL, PARITY):
        shutil.copytree(like.original_dir, folder / part, ignore=shutil.ignore_patterns("*.safetensors"))
        (folder / part / "config.json").write_text(json.dumps(dict(config)))
    first = {tensor: size for tensor, size in sizes.items() if tensor.startswith(_FIRST_LAYER)}
    torch.manual_seed(0)
    with (
        SafetensorsWriter(folder / ORIGINAL / "model.safetensors", sizes) as original,
        SafetensorsWriter(folder / PARITY / "model.safetensors", first) as parity,
    ):
        for tensor, size in sizes.items():
            values = _draw(tensor, size)
            original.write(tensor, values)
            if tensor in first:
                parity.write(tensor, round_to_nf4(values) if "_proj.weight" in tensor else values)
    _write_manifest(name, like, folder)
    return PreparedBase.open(folder)


def _draw(name: str, size: tuple[int, ...]) -> torch.Tensor:
    if "norm" in name:
        return torch.ones(size, dtype=torch.bfloat16)
    # On the card, where 13 billion numbers take a moment and not minutes.
    return torch.empty(size, dtype=torch.bfloat16, device="cuda").normal_(0, _SPREAD).cpu()


def _write_manifest(name: str, like: PreparedBase, folder: Path) -> None:
    files = tuple(
        BaseFile(path.relative_to(folder).as_posix(), path.stat().st_size, "0" * 64)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    manifest = BaseManifest(
        name=name,
        source="dir:/random",
        source_sha256="0" * 64,
        digest="0" * 64,
        parity_digest="0" * 64,
        quantisation=QUANTISATION,
        licence="none",
        end_of_turn=like.end_of_turn,
        end_of_turn_id=like.end_of_turn_id,
        versions={},
        created="2026-01-01T00:00:00+00:00",
        files=files,
    )
    (folder / "base.json").write_text(manifest.to_json())
