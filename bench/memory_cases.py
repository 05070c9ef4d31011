"""The cases of the memory measurement: bases, sizes of rows and batches, ranks, and every technique on and off."""

from collections.abc import Mapping
from dataclasses import dataclass

from trainer_svc.memory.techniques import BasePrecision, Home, MomentPrecision, Recompute, Techniques

EMBEDDED = "smollm2-135m-instruct"
# The tokenizer is the embedded base's.
_VOCABULARY = 49152
_COMMON = {"vocab_size": _VOCABULARY, "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2}

BASES: Mapping[str, Mapping[str, object]] = {
    "llama-33m": {
        **_COMMON,
        "model_type": "llama",
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "qwen2-60m": {
        **_COMMON,
        "model_type": "qwen2",
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "llama-300m": {
        **_COMMON,
        "model_type": "llama",
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": False,
    },
    "qwen3-480m": {
        **_COMMON,
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True, slots=True)
class Case:
    """One job: `row_tokens` is about how long each row is, `rank` the adapter's."""

    base: str
    techniques: Techniques
    row_tokens: int
    batch_rows: int = 8
    rank: int = 16


def list_cases() -> list[Case]:
    """Return all cases, those of one base side by side."""
    nf4, parity, bf16, int8 = BasePrecision.NF4, BasePrecision.PARITY_BF16, BasePrecision.BF16, BasePrecision.INT8
    none, selective, full = Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL
    fp32, small, disk, here = MomentPrecision.FP32, MomentPrecision.INT8, Home.DISK, Home.DEVICE
    return [
        Case("llama-33m", Techniques(parity, 8, none), 128),
        Case("llama-33m", Techniques(nf4, 8, none), 128),
        Case("llama-33m", Techniques(nf4, 2, full), 512),
        Case("llama-33m", Techniques(parity, 4, selective), 256, rank=64),
        Case("llama-33m", Techniques(nf4, 1, full, 32, small), 1024, batch_rows=4),
        Case("qwen2-60m", Techniques(parity, 8, none), 64),
        Case("qwen2-60m", Techniques(nf4, 4, selective), 256),
        Case("qwen2-60m", Techniques(nf4, 2, full, 32), 512, rank=8),
        Case("qwen2-60m", Techniques(parity, 2, none, 128, fp32, here, disk), 512, batch_rows=4),
        Case("qwen2-60m", Techniques(int8, 4, none), 128),
        Case(EMBEDDED, Techniques(parity, 8, none), 64),
        Case(EMBEDDED, Techniques(parity, 8, none), 256),
        Case(EMBEDDED, Techniques(nf4, 8, none), 64, rank=4),
        Case(EMBEDDED, Techniques(nf4, 4, selective), 256, rank=32),
        Case(EMBEDDED, Techniques(nf4, 1, full), 512, batch_rows=4),
        Case(EMBEDDED, Techniques(nf4, 1, full, 32, small), 1024, batch_rows=2, rank=64),
        Case(EMBEDDED, Techniques(nf4, 4, full, 128, fp32, disk, disk), 128, rank=64),
        Case(EMBEDDED, Techniques(nf4, 4, full, 32, fp32, disk, disk, disk), 128),
        Case(EMBEDDED, Techniques(parity, 8, full, 128, fp32, here, here, disk), 128),
        Case(EMBEDDED, Techniques(bf16, 4, none), 128),
        Case(EMBEDDED, Techniques(int8, 2, full, 128, small), 256),
        Case("llama-300m", Techniques(parity, 4, none), 128, batch_rows=4),
        Case("llama-300m", Techniques(nf4, 2, full), 256, batch_rows=4),
        Case("llama-300m", Techniques(nf4, 1, selective, 32, small), 512, batch_rows=2),
        Case("llama-300m", Techniques(nf4, 2, full, 32, fp32, disk, disk, disk), 128, batch_rows=2),
        Case("qwen3-480m", Techniques(parity, 2, none), 128, batch_rows=2),
        Case("qwen3-480m", Techniques(nf4, 2, full), 256, batch_rows=2, rank=32),
        Case("qwen3-480m", Techniques(nf4, 1, full, 32, small, disk, disk), 512, batch_rows=1),
    ]
