"""Which answer schemas an engine is ready for.

To compile a grammar may take an engine seconds. It is done before a request waits for its place, once for all who ask for the same,
and one after another: a request in the engine is answered at once then, and no bot's grammar keeps another bot's waiting in there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from serve_svc.engine.engine import SchemaImpossible

# More bots than one server keeps adapters for; each holds a schema of some kilobytes.
_MAX_KNOWN = 1_024


class PreparedSchemas:
    """The verdicts of one engine."""

    def __init__(self, prepare: Callable[[str], Awaitable[None]]) -> None:
        """`prepare` makes the engine ready for a schema, or raises SchemaImpossible."""
        self._prepare = prepare
        self._verdicts: OrderedDict[str, asyncio.Task[None]] = OrderedDict()  # the one asked for last at the end
        self._one_at_a_time = asyncio.Lock()

    async def require(self, schema: str) -> None:
        """Return when the engine is ready. Raises SchemaImpossible, at once where it is known, and whatever else ends the work."""
        if schema not in self._verdicts:
            self._verdicts[schema] = asyncio.create_task(self._decide(schema), name="answer schema")
        self._verdicts.move_to_end(schema)
        # A caller that leaves takes nothing from the others.
        await asyncio.shield(self._verdicts[schema])

    async def _decide(self, schema: str) -> None:
        try:
            async with self._one_at_a_time:
                await self._prepare(schema)
        except SchemaImpossible:
            raise
        except BaseException:
            del self._verdicts[schema]  # tells nothing of the schema: the next one tries again
            raise
        finally:
            self._forget_old()

    def _forget_old(self) -> None:
        done = [schema for schema, task in self._verdicts.items() if task.done()]
        for schema in done[: max(0, len(self._verdicts) - _MAX_KNOWN)]:
            del self._verdicts[schema]
