"""Rounds a weight to the values that QLoRA trains against: NF4 with double quantisation, then back to bf16.

Adapters are trained on those values, so a base that is served at them answers as in training (arXiv:2305.14314, section 3).
"""

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

QUANTISATION = "nf4, blocks of 64, double quantisation"
_BLOCK_SIZE = 64


def round_to_nf4(weight: torch.Tensor) -> torch.Tensor:
    """Return the bf16 weight [out, in] at its dequantised NF4 values, of the same shape and dtype."""
    codes, state = quantize_4bit(weight, quant_type="nf4", blocksize=_BLOCK_SIZE, compress_statistics=True)
    rounded: torch.Tensor = dequantize_4bit(codes, state).to(torch.bfloat16)
    return rounded
