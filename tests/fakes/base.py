"""A prepared base without weights: all the control plane reads of one, in a few kilobytes."""

import hashlib
import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from adaptory.core.base_model import BaseFile, BaseManifest, PreparedBase, files_digest
from tests.adapters import TINY_CONFIG

NAME = "tiny"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_base(cache_root: Path) -> PreparedBase:
    """Prepare the base `tiny`: the shape of a two-layer Llama, one token for each byte."""
    folder = cache_root / "bases" / NAME / "prepared"
    for part in ("original", "parity"):
        (folder / part).mkdir(parents=True)
        config = {**TINY_CONFIG, "max_position_embeddings": 2048, "vocab_size": 258, "_part": part}
        (folder / part / "config.json").write_text(json.dumps(config))
        (folder / part / "chat_template.jinja").write_text(_TEMPLATE)
        (folder / part / "tokenizer.json").write_text(_byte_tokenizer().to_str())
    files = tuple(_describe(path, folder) for path in sorted(folder.glob("*/*")))
    manifest = BaseManifest(
        name=NAME,
        source="dir:tests",
        source_sha256="0" * 64,
        digest=files_digest(files, "original"),
        parity_digest=files_digest(files, "parity"),
        quantisation="nf4",
        licence="Apache-2.0",
        end_of_turn="<|im_end|>",
        end_of_turn_id=1,
        versions={},
        created="2026-01-01T00:00:00+00:00",
        files=files,
    )
    (folder / "base.json").write_text(manifest.to_json())
    return PreparedBase.open(folder)


def _byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|im_start|>": 0, "<|im_end|>": 1, **{symbol: 2 + index for index, symbol in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")])
    return tokenizer


def _describe(path: Path, folder: Path) -> BaseFile:
    raw = path.read_bytes()
    return BaseFile(str(path.relative_to(folder)), len(raw), hashlib.sha256(raw).hexdigest())
