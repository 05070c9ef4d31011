"""Predicts what a job takes and picks the fastest plan that fits its limit. Pure Python: neither torch nor a device is needed."""
