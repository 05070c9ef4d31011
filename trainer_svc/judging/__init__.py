"""Scores answers, and says whether a version is good enough: pure functions, no model, no database."""
