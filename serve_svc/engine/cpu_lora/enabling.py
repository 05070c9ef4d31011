"""How `factory.py` tells vLLM's other processes that their engine is ours; it imports no vLLM, which would come too early there."""

# No ADAPTORY_ in front: what begins so is a setting of a service, or is refused.
ENABLING_VARIABLE = "CPU_LORA_OF_ADAPTORY"
