"""Adapters near the base's speed where vLLM runs on a CPU: a LoRA path of our own, in place of vLLM's gather of weights per token."""
