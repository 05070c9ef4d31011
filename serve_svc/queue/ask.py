"""What a request asks of the engine, as far as the queue in front of it cares."""

import enum
from dataclasses import dataclass


class Urgency(enum.StrEnum):
    """Who goes first: somebody who types, then somebody who reads, then nobody at all, whose answer is only compared."""

    INTERACTIVE = "interactive"
    CHAT = "chat"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Ask:
    """How much is asked for whom; `engine_id` None is the bare base, `left_s` the time to the caller's deadline, None without one."""

    tenant: str
    engine_id: int | None
    urgency: Urgency
    num_prompt_tokens: int
    max_output_tokens: int
    left_s: float | None = None

    @property
    def max_tokens(self) -> int:
        """Tokens it takes up in the engine, at most."""
        return self.num_prompt_tokens + self.max_output_tokens
