"""Reads a published checkpoint: its tensors one by one in bf16, its config, and its tokenizer's files.

Two forms are known: a GGUF file, which transformers dequantises as a whole, and a folder of safetensors, which is streamed.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from safetensors import safe_open

from adaptory.core.base_shape import BaseShape
from adaptory.core.errors import InvalidRequest

CONFIG_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
TEMPLATE_FILE = "chat_template.jinja"
_REQUIRED_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
# Old checkpoints keep this constant of the architecture among their weights.
_CONSTANTS = ("rotary_emb.inv_freq",)
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


class Checkpoint(Protocol):
    """A checkpoint opened for reading."""

    def __enter__(self) -> Self:
        """Open it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""

    def write_config_files(self, folder: Path) -> None:
        """Write `CONFIG_FILES`, as far as there are any, and the checkpoint's own chat template into `folder`."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor by name, in the order they will be read."""

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor in bf16, on the CPU."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Return the reader for a GGUF file or a folder of safetensors."""
    return SafetensorsFolder(path) if path.is_dir() else GgufFile(path)


class GgufFile:
    """A GGUF file: loaded whole, because transformers' dequantisation works on the whole model."""

    def __init__(self, path: Path) -> None:
        """Keep the path."""
        self._path = path

    def __enter__(self) -> Self:
        """Load model and tokenizer; takes twice the model's bf16 size in memory."""
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415 - only for this form

        where, file = self._path.parent, self._path.name
        self._tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=file)
        # A path loads as float32 unless a dtype is said.
        self._model = AutoModelForCausalLM.from_pretrained(
            where, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
        )
        tensors: dict[str, torch.Tensor] = self._model.state_dict()
        if self._model.config.tie_word_embeddings:
            tensors.pop("lm_head.weight", None)
        self._tensors = {name: tensors[name] for name in sorted(tensors)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the model go."""
        del self._model, self._tensors

    def write_config_files(self, folder: Path) -> None:
        """Write what transformers derives from the file's metadata."""
        # A model says its class only when it is saved itself, and vLLM finds its own by that name.
        self._model.config.architectures = [type(self._model).__name__]
        self._model.config.save_pretrained(folder)
        self._model.generation_config.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor by name."""
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor; it stays the model's."""
        return self._tensors[name]


class SafetensorsFolder:
    """A folder as `save_pretrained` writes it, in one file or in shards; holds one tensor at a time."""

    def __init__(self, path: Path) -> None:
        """Keep the path."""
        self._path = path
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the weight files and check that each tensor is plain floats.

        Raises:
            InvalidRequest: A file is missing, the weights are quantised, or the architecture is not known.
        """
        self._config = self._read_config()
        is_tied = BaseShape.from_config(self._config).has_tied_embeddings
        self._files: dict[str, Any] = {}
        for path in sorted(self._path.glob("*.safetensors")):
            file = self._stack.enter_context(safe_open(path, framework="pt"))
            for name in file.keys():  # noqa: SIM118 - it is no dict and cannot be iterated
                is_copy = is_tied and name == "lm_head.weight"
                if not is_copy and not name.endswith(_CONSTANTS):
                    self._files[name] = file
        self._shapes = {name: self._read_shape(name) for name in sorted(self._files)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the weight files."""
        self._stack.close()

    def write_config_files(self, folder: Path) -> None:
        """Copy the folder's own files."""
        for name in (*CONFIG_FILES, TEMPLATE_FILE):
            if (self._path / name).is_file():
                shutil.copyfile(self._path / name, folder / name)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor by name."""
        return self._shapes

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor from its file."""
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor.to(torch.bfloat16)

    def _read_config(self) -> dict[str, Any]:
        if missing := [name for name in _REQUIRED_FILES if not (self._path / name).is_file()]:
            raise InvalidRequest.of_field("base.source", f"{self._path} lacks {', '.join(missing)}")
        config: dict[str, Any] = json.loads((self._path / "config.json").read_text(encoding="utf-8"))
        if config.get("quantization_config"):
            problem = f"{self._path} is quantised already; give the checkpoint it was made from"
            raise InvalidRequest.of_field("base.source", problem)
        return config

    def _read_shape(self, name: str) -> tuple[int, ...]:
        part = self._files[name].get_slice(name)
        if part.get_dtype() not in _FLOATS:
            raise InvalidRequest.of_field("base.source", f"{name} is of type {part.get_dtype()}, not plain floats")
        return tuple(part.get_shape())
