"""How large both sides' engines are: serve_svc's own defaults but for the slots, stated so that no environment changes them."""

MAX_LORAS = 4
"""Few, so that adapters must take turns."""
MAX_CPU_LORAS = 32
MAX_LORA_RANK = 16
MAX_MODEL_TOKENS = 2048
KV_CACHE_BYTES = 1 << 30
MAX_SEQUENCES = 16
"""Requests in the engine at once, and the streams of a load that never pauses."""
MAX_STEP_TOKENS = 2048
KEPT_PLACES = 16
"""Requests beyond that, which serve_svc keeps for tenants who ask little; a bare engine has them for anybody."""

SETTINGS = {
    "MAX_CPU_LORAS": str(MAX_CPU_LORAS),
    "MAX_LORA_RANK": str(MAX_LORA_RANK),
    "MAX_MODEL_TOKENS": str(MAX_MODEL_TOKENS),
    "KV_CACHE_BYTES": str(KV_CACHE_BYTES),
    "MAX_IN_FLIGHT": str(MAX_SEQUENCES),
    "MAX_STEP_TOKENS": str(MAX_STEP_TOKENS),
    "KEPT_PLACES": str(KEPT_PLACES),
}
"""The same as settings of serve_svc; slots are the scenario's."""
