"""Adapters to be served: as many as a measurement wants, of different bytes, at the price of one.

They share their weights, random and so small that texts stay fluent; a field of the config that nothing reads tells them apart, and
so do their digests: whoever fetches or loads one has all its bytes to move.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from adaptory.core.adapter_check import CONFIG_FILE, WEIGHTS_FILE
from adaptory.core.base_shape import LINEAR_MODULES, BaseShape
from adaptory.core.digests import digest_listing, hash_file

RANK = 16
"""That of the FAQ recipe."""
_SCALE_A, _SCALE_B = 0.02, 0.002


class AdapterShelf:
    """A folder of adapters, each named by a number from 1; it is written once, and read by both sides."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that `write` has filled."""
        self._folder = folder
        self.weights_file = folder / WEIGHTS_FILE
        self._weights_digest = hash_file(self.weights_file)

    @classmethod
    def write(cls, folder: Path, base: BaseShape) -> "AdapterShelf":
        """Write the weights they share: A and B of every linear layer, in 16 bits as a worker leaves them."""
        chance = np.random.default_rng(0)

        def draw(scale: float, *shape: int) -> npt.NDArray[np.float16]:
            return chance.normal(0, scale, shape).astype(np.float16)

        tensors = {}
        for module, (num_in, num_out) in base.linear_shapes().items():
            tensors[f"base_model.model.{module}.lora_A.weight"] = draw(_SCALE_A, RANK, num_in)
            tensors[f"base_model.model.{module}.lora_B.weight"] = draw(_SCALE_B, num_out, RANK)
        folder.mkdir(parents=True)
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        return cls(folder)

    def write_config(self, number: int) -> bytes:
        """Return the bytes of an adapter's config."""
        config = {
            "base_model_name_or_path": f"adapter {number}",
            "bias": "none",
            "lora_alpha": 2 * RANK,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": RANK,
            "target_modules": list(LINEAR_MODULES),
            "task_type": "CAUSAL_LM",
        }
        return json.dumps(config).encode()

    def digest(self, number: int) -> str:
        """Return an adapter's digest."""
        config_digest = hashlib.sha256(self.write_config(number)).hexdigest()
        return digest_listing({CONFIG_FILE: config_digest, WEIGHTS_FILE: self._weights_digest})

    def size_bytes(self, number: int) -> int:
        """Return the size of both files of an adapter."""
        return len(self.write_config(number)) + self.weights_file.stat().st_size

    def find_folder(self, number: int) -> Path:
        """Return an adapter's own folder, made where it is not there yet; its weights are a hard link."""
        folder = self._folder / f"{number}"
        if not folder.exists():
            folder.mkdir()
            os.link(self.weights_file, folder / WEIGHTS_FILE)
            (folder / CONFIG_FILE).write_bytes(self.write_config(number))
        return folder
