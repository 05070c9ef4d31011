"""Builds a tiny base model as a folder of safetensors, as a user would hand in by `dir:`, and one that looks prepared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from adaptory.core.base_model import BaseFile, BaseManifest, files_digest
from adaptory.core.digests import hash_file
from tests.adapters import TINY_CONFIG, tiny_shape

TEMPLATE = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"


def write_checkpoint(folder: Path, *, seed: int = 0, config: dict[str, Any] | None = None) -> Path:
    """Write a random float32 Llama in two shards, with tokenizer and chat template, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _random_tensors(seed)
    names = sorted(tensors)
    for number, shard in enumerate((names[::2], names[1::2]), start=1):
        save_file({name: tensors[name] for name in shard}, folder / f"model-{number:05}-of-00002.safetensors")
    (folder / "config.json").write_text(json.dumps({**TINY_CONFIG, "transformers_version": "0", **(config or {})}))
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, *, end_of_turn: str = "<|im_end|>", template: str = TEMPLATE) -> None:
    """Write a tokenizer of three words that names `end_of_turn` as its end, and a chat template unless it is empty."""
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "hello": 1, "world": 2}, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": {"content": end_of_turn}}
    (folder / "tokenizer_config.json").write_text(json.dumps({**fields, "chat_template": template}))


def write_prepared(home: Path, *, name: str = "tiny", created: str = "2026-01-01T00:00:00+00:00") -> Path:
    """Write a folder of the layout of a prepared base, with made-up weights, below `home` and return it."""
    folder = home / "bases" / name / f"made-{created[:10]}"
    for part in ("original", "parity"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(TINY_CONFIG))
        (folder / part / "chat_template.jinja").write_text(TEMPLATE)
        (folder / part / "model.safetensors").write_bytes(part.encode())
    files = tuple(
        BaseFile(path.relative_to(folder).as_posix(), path.stat().st_size, hash_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    manifest = BaseManifest(
        name=name,
        source="dir:/somewhere",
        source_sha256="0" * 64,
        digest=files_digest(files, "original"),
        parity_digest=files_digest(files, "parity"),
        quantisation="nf4",
        licence="unknown",
        end_of_turn="<|im_end|>",
        end_of_turn_id=3,
        versions={},
        created=created,
        files=files,
    )
    (folder / "base.json").write_text(manifest.to_json())
    return folder


def _random_tensors(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    hidden, vocab = TINY_CONFIG["hidden_size"], TINY_CONFIG["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        f"{module}.weight": (rows, columns) for module, (columns, rows) in tiny_shape().linear_shapes().items()
    }
    shapes |= {"model.embed_tokens.weight": (vocab, hidden), "lm_head.weight": (vocab, hidden)}
    norms = [f"layers.{layer}.{norm}_layernorm" for layer in range(2) for norm in ("input", "post_attention")]
    shapes |= {f"model.{norm}.weight": (hidden,) for norm in (*norms, "norm")}
    return {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
