"""Bases with random weights of any shape, prepared as real ones are: memory does not depend on what a model knows."""
