"""What other programs call the tensors of an adapter, and what PEFT, and so vLLM, calls them.

A name is only ever changed around its middle, which says layer, module and matrix: what wrappers put before it and where adapters are
named differs, what is computed does not.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adaptory.core.errors import AdapterRejected
from adaptory.core.safetensors_header import quote

# What compiling, sharding and checkpointing put between the parts of a name.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# Of a model of text and pictures only the language model's layers have this form.
_NAME = re.compile(
    r"(?:base_model\.model\.)*(?:model\.)?(?:language_model\.)?(?:model\.)?"
    r"(?P<module>layers\.\d+\.(?:self_attn|mlp)\.\w+)\.lora_(?P<matrix>[AB])(?:\.(?P<adapter>\w+))?\.weight"
)


@dataclass(frozen=True, slots=True)
class TensorNames:
    """What was made of the names: PEFT's name by the name in the file, the modules they adapt, those that are no LoRA matrix's."""

    renamed: Mapping[str, str]
    modules: frozenset[str]
    unplaced: tuple[str, ...]
    changes: tuple[str, ...]

    def require_placed(self) -> None:
        """Raise AdapterRejected (UNSUPPORTED_FEATURE, EMBEDDINGS_CHANGED, FOREIGN_LAYOUT) for the first that has no place."""
        if self.unplaced:
            raise _refuse(self.unplaced[0], len(self.unplaced))


def read_names(names: Iterable[str]) -> TensorNames:
    """Find PEFT's names. Raises AdapterRejected (FOREIGN_LAYOUT) where two become one, or the file holds several adapters."""
    renamed: dict[str, str] = {}
    modules, adapters, unplaced = set[str](), set[str](), list[str]()
    for name in names:
        found = _NAME.fullmatch(".".join(part for part in name.split(".") if part not in _WRAPPERS))
        if found is None:
            unplaced.append(name)
            continue
        module = f"model.{found['module']}"
        modules.add(module)
        adapters.add(found["adapter"] or "")
        renamed[name] = f"base_model.model.{module}.lora_{found['matrix']}.weight"
    if len(adapters) > 1 or len(set(renamed.values())) < len(renamed):
        raise AdapterRejected(
            "adapter_model.safetensors holds more than one adapter; save each by itself and import one.",
            reason="FOREIGN_LAYOUT",
        )
    changed = sorted(name for name, new in renamed.items() if name != new)
    sentence = f"Renamed {len(changed)} tensors to PEFT's names, such as {quote(changed[0])}." if changed else ""
    return TensorNames(renamed, frozenset(modules), tuple(sorted(unplaced)), (sentence,) if sentence else ())


def _refuse(name: str, num_unplaced: int) -> AdapterRejected:
    shown, metadata = quote(name), {"tensor": quote(name), "num_tensors": num_unplaced}
    if "lora_magnitude_vector" in name:
        message = f"The adapter uses DoRA ({shown}); only plain LoRA is served: train it with use_dora=False."
        return AdapterRejected(message, reason="UNSUPPORTED_FEATURE", metadata=metadata)
    if "embed_tokens" in name or "lm_head" in name or "lora_embedding" in name:
        message = (
            f"The adapter's file holds embeddings or an output head ({shown}), which all tenants of a base share. If they were not"
            " trained, save it with save_embedding_layers=False; if they were, or the vocabulary was resized, train without that."
        )
        return AdapterRejected(message, reason="EMBEDDINGS_CHANGED", metadata=metadata)
    if ".lora_a." in name or ".lora_b." in name:
        message = (
            f"The adapter's tensors are named as torchtune keeps them ({shown}), and in which order the rows of its queries and keys"
            " lie cannot be told from them. Save it with FullModelHFCheckpointer, which writes PEFT's form and order."
        )
        return AdapterRejected(message, reason="FOREIGN_LAYOUT", metadata=metadata)
    message = (
        f"{num_unplaced} tensors are no LoRA matrices of a decoder's linear layers, first {shown}; save the adapter with PEFT's"
        " save_pretrained, and train no other modules."
    )
    return AdapterRejected(message, reason="FOREIGN_LAYOUT", metadata=metadata)
