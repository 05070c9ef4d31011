"""`python -m bench.random_base CONFIG_JSON TOKENIZER_FOLDER FOLDER`: writes a checkpoint with random weights into FOLDER.

CONFIG_JSON is a config.json's content; tokenizer and chat template are copied from another model's folder.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_SPREAD = 0.02


def main(config_text: str, tokenizer_folder: Path, folder: Path) -> None:
    """Write the checkpoint."""
    values = json.loads(config_text)
    torch.manual_seed(0)
    config = AutoConfig.for_model(values.pop("model_type"), initializer_range=_SPREAD, **values)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    for name in _COPIED:
        if (tokenizer_folder / name).exists():
            shutil.copyfile(tokenizer_folder / name, folder / name)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
