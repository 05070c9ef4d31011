"""Puts the catalogue's pins into the config files of a base, and takes out what depends on the machine that wrote them."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from adaptory.core.catalogue import CatalogueEntry
from adaptory.core.errors import InvalidRequest
from adaptory.core.fim import FimRenderer
from adaptory.core.opening import find_opening
from trainer_svc.worker.prepare.checkpoint import TEMPLATE_FILE

# They say who wrote a file, where and how, nothing about the model; two machines would get two digests for one base.
_TRACES = frozenset(
    {"transformers_version", "_name_or_path", "_model_name_or_path", "torch_dtype", "is_local", "local_files_only"}
)


def pin_config_files(entry: CatalogueEntry, folder: Path) -> tuple[str, int]:
    """Make the config files those of the catalogue and of bf16 weights; return the end-of-turn token and its id.

    Raises:
        InvalidRequest: Neither catalogue nor source has a chat template, or the tokenizer lacks the token, or the opening one, or one
            of the FIM family.
    """
    config = _read_clean(folder / "config.json")
    _write_json(folder / "config.json", {**config, "dtype": "bfloat16"})
    if (generation := folder / "generation_config.json").exists():
        _write_json(generation, _read_clean(generation))
    tokenizer = _read_clean(folder / "tokenizer_config.json")
    own_template = tokenizer.pop("chat_template", "")
    _write_json(folder / "tokenizer_config.json", tokenizer)
    _pin_template(entry, folder / TEMPLATE_FILE, own_template)
    if entry.opening:
        _pin_opening(entry.opening, folder / "tokenizer.json")
    end_of_turn = entry.end_of_turn or _token_text(tokenizer.get("eos_token"))
    token_id = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(end_of_turn)
    if token_id is None:
        raise InvalidRequest.of_field("base.end_of_turn", f"the tokenizer has no token {end_of_turn!r}")
    _check_fim(entry, folder / "tokenizer.json", end_of_turn)
    return end_of_turn, token_id


def _pin_opening(opening: str, file: Path) -> None:
    """Have the tokenizer put the token before every text; a renderer finds it there, whatever template it fills."""
    tokenizer = Tokenizer.from_file(str(file))
    token_id = tokenizer.token_to_id(opening)
    if token_id is None:
        raise InvalidRequest.of_field("base.opening", f"the tokenizer has no token {opening!r}")
    if find_opening(tokenizer) != (token_id,):
        tokenizer.post_processor = TemplateProcessing(
            single=f"{opening} $A", pair=f"{opening} $A {opening} $B", special_tokens=[(opening, token_id)]
        )
        tokenizer.save(str(file), pretty=False)


def _check_fim(entry: CatalogueEntry, tokenizer: Path, end_of_turn: str) -> None:
    try:
        FimRenderer.from_files(tokenizer, entry.fim, end_of_turn)
    except ValueError as error:
        raise InvalidRequest.of_field(
            "base.fim", f"the source is no base of the family {entry.fim}: {error}"
        ) from error


def _read_clean(file: Path) -> dict[str, object]:
    fields: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in fields.items() if key not in _TRACES}


def _pin_template(entry: CatalogueEntry, file: Path, own_template: object) -> None:
    """Write the template of the catalogue; without one, keep the checkpoint's own."""
    if entry.chat_template:
        file.write_text(entry.chat_template, encoding="utf-8")
    elif not file.exists():
        if not isinstance(own_template, str) or not own_template:
            raise InvalidRequest.of_field("base.chat_template", "neither the catalogue nor the source has one")
        file.write_text(own_template, encoding="utf-8")


def _token_text(token: object) -> str:
    """Return a token of tokenizer_config.json, which is text or an object with its content."""
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _write_json(file: Path, fields: dict[str, object]) -> None:
    file.write_text(json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
