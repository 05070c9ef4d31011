"""The adapter version a request is routed to: the one value that routing, adapters and the engine share.

Parsed from the registry's manifest at the edge (`convert.py`); nothing here checks names again.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One immutable version of one bot's adapter.

    `engine_id` comes from the registry's persistent counter (>= 1) and names this version only, for ever: vLLM answers a
    second adapter under a used id with the first one's weights. `digest` is `adapter_digest` of the files, `base_digest`
    that of the parity base the version was judged on.
    """

    name: str  # tenants/{tenant}/bots/{bot}/versions/{number}
    tenant: str
    bot: str
    number: int
    engine_id: int
    digest: str  # sha256, 64 hex characters
    rank: int
    base_digest: str
    size_bytes: int

    @property
    def engine_name(self) -> str:
        """Name inside the engine, unique per version: two adapters of one name in a batch kill vLLM.

        The number tells versions apart that were trained alike and so have the same bytes.
        """
        return f"{self.tenant}/{self.bot}/{self.number}@{self.digest}"
