"""Turns a tenant's data into a LoRA adapter under a memory limit, judges it, and registers it."""
