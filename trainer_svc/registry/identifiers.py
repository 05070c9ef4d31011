"""Ids the service chooses itself: random, so that nobody can guess another tenant's."""

import secrets


def make_id(prefix: str) -> str:
    """Return a new id that may stand in a resource name: the prefix, a hyphen and 64 random bits."""
    return f"{prefix}-{secrets.token_hex(8)}"
