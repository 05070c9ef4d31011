"""Which conversations a canary or a shadow has: a share of them, the same on every server, and more of them as the share grows."""

import hashlib

from adaptory.core.names import VersionName

# Shares are whole percents, so hundredths of them are fine enough.
_PLACES = 10_000


def falls_to(version: VersionName, percent: int, key: str) -> bool:
    """Tell whether `version`, which is to have so many percent of the conversations, has the one of this key.

    The version is hashed, too: another canary is tried on other conversations.
    """
    digest = hashlib.sha256(f"{version}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8]) % _PLACES < percent * _PLACES // 100
