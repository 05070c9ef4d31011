"""Runs one base model on vLLM and hot-loads every tenant's adapters onto it."""
