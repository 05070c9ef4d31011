"""An adapter that changes nothing, for engines that cannot leave a request without one."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adaptory.core.adapter_check import CONFIG_FILE, WEIGHTS_FILE
from adaptory.core.base_shape import BaseShape

# Engine ids are counted up from 1 by the registry; this one is out of its reach.
NULL_ADAPTER_ID = 2**31 - 1


def write_null_adapter(folder: Path, base: BaseShape) -> None:
    """Write a rank-1 LoRA of zeros on one module; the engine zeroes the slots of the others itself."""
    module, (num_in, num_out) = next(iter(base.linear_shapes().items()))
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": [module.rpartition(".")[2]]}
    (folder / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    prefix = f"base_model.model.{module}"
    tensors = {
        f"{prefix}.lora_A.weight": np.zeros((1, num_in), dtype=np.float32),
        f"{prefix}.lora_B.weight": np.zeros((num_out, 1), dtype=np.float32),
    }
    save_file(tensors, folder / WEIGHTS_FILE)
