"""Which conversations a canary answers: a share of them, the same ones on every server, and more of them as the share grows."""

import hashlib

from adaptory.core.names import VersionName

# Shares are whole percents, so hundredths of them are fine enough.
_PLACES = 10_000


def falls_to_canary(version: VersionName, percent: int, key: str) -> bool:
    """Tell whether the canary `version`, of so many percent, answers the conversation of this key.

    The version is hashed, too: another canary is tried on other conversations.
    """
    digest = hashlib.sha256(f"{version}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8]) % _PLACES < percent * _PLACES // 100
