"""The shared core: no torch, no vllm, no service."""
