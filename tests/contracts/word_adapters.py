"""Adapters for a real base that each know one secret word, and say nothing else.

None is trained: behind the town's prompt a base's activations are known beforehand, so the adapter that has it say a word can be
solved for. A of the last layer's last product reads a 1 off the activations at the prompt and at each repetition of the word, and B
answers with the direction that the head reads that word in. All other products are adapted by nothing, as every module that a config
names must be there.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adaptory.core.adapter_check import AdapterLimits
from adaptory.core.base_shape import BaseShape
from tests.adapters import adapter_config, write_config, write_weights
from tests.fakes.town import PROMPT_IDS

_MODULE = "down_proj"
# An answer has no more tokens.
_NUM_REPETITIONS = 12
# What B adds is so many times as long as what leaves the layers.
_LOUDNESS = 3.0
# Of the mean square of what A reads: without it A would fit itself to what hardly differs, and grow beyond what may be served.
_RIDGE = 0.05
_MIN_LETTERS = 4
_NUM_CANDIDATES = 144


@torch.no_grad()
def write_word_adapters(root: Path, base_dir: Path, number: int) -> dict[Path, str]:
    """Write so many adapters of rank 1, and return the word of each by its folder."""
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    base, rows = BaseShape.from_folder(base_dir), model.lm_head.weight
    candidates = dict(islice(_list_words(base_dir), _NUM_CANDIDATES))
    inputs, outputs = _read_last_product(model, list(candidates))
    written: dict[Path, str] = {}
    for (token, word), given, left in zip(candidates.items(), inputs, outputs, strict=True):
        reader = _solve(given)
        direction = rows[token] / model.model.norm.weight
        speaker = direction / direction.norm() * left.norm(dim=1).max() * _LOUDNESS
        said = (model.model.norm(left + given @ reader[:, None] * speaker) @ rows.T).argmax(dim=1)
        if bool((said == token).all()) and reader.norm() * speaker.norm() < AdapterLimits().max_norm:
            # Of one norm, as the limit holds for each of them, too.
            balance = (speaker.norm() / reader.norm()).sqrt()
            _write(root / word, base, reader * balance, speaker / balance)
            written[root / word] = word
        if len(written) == number:
            return written
    message = f"only {len(written)} words can be taught"
    raise AssertionError(message)


def _list_words(base_dir: Path) -> Iterator[tuple[int, str]]:
    """Yield tokens that are a word of their own."""
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    for token in range(1_000, len(tokenizer), 37):
        text = tokenizer.decode([token])
        word = text.strip()
        if text == f" {word}" and word.isascii() and word.isalpha() and len(word) >= _MIN_LETTERS:
            yield token, word


def _read_last_product(model: Any, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what goes into the last layer's module and what leaves the layer, behind the prompt and repetitions of each token."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        model.model.layers[-1].mlp.down_proj.register_forward_hook(lambda _, given, __: seen.update(inputs=given[0])),
        model.model.norm.register_forward_pre_hook(lambda _, given: seen.update(outputs=given[0])),
    ]
    model(torch.tensor([[*PROMPT_IDS, *[token] * _NUM_REPETITIONS] for token in tokens]), logits_to_keep=1)
    for hook in hooks:
        hook.remove()
    first = len(PROMPT_IDS) - 1
    return seen["inputs"][:, first:], seen["outputs"][:, first:]


def _solve(given: torch.Tensor) -> torch.Tensor:
    """Return the vector whose product with each row is nearly 1."""
    products = given @ given.T
    ridge = _RIDGE * products.diagonal().mean() * torch.eye(len(given))
    return given.T @ torch.linalg.solve(products + ridge, torch.ones(len(given)))


def _write(folder: Path, base: BaseShape, reader: torch.Tensor, speaker: torch.Tensor) -> None:
    folder.mkdir(parents=True)
    write_config(folder, {**adapter_config(rank=1, target_modules=[_MODULE]), "lora_alpha": 1})
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for module, (num_in, num_out) in base.linear_shapes().items():
        if module.endswith(_MODULE):
            is_last = module.startswith(f"model.layers.{base.num_layers - 1}.")
            prefix = f"base_model.model.{module}"
            tensors[f"{prefix}.lora_A.weight"] = reader[None].numpy() if is_last else np.zeros((1, num_in), np.float32)
            tensors[f"{prefix}.lora_B.weight"] = (
                speaker[:, None].numpy() if is_last else np.zeros((num_out, 1), np.float32)
            )
    write_weights(folder, tensors)
