"""How `factory.py` tells vLLM's other processes that their engine is ours; it imports no vLLM, which would come too early there."""

ENABLING_VARIABLE = "ADAPTORY_CPU_LORA"
