"""Prepares a base model: fetches it, writes it as bf16 safetensors, and beside it the parity copy that is served.

Runs as a child process (`python -m trainer_svc.worker.prepare`), because only the worker imports torch. The command line reads its
progress from standard output, one JSON object a line.
"""
