"""Writes the grammar by which the engine keeps an answer to a JSON schema.

vLLM would make one of the schema itself, in which any number of blanks may stand between two tokens of JSON: a small model that has
lost its way then says blanks to the end of its answer. In ours there is one at most, as in what `json.dumps` writes.
"""

import re
from functools import lru_cache

from xgrammar import Grammar

_MAX_BLANKS = 1
# Any escape, so that the second of two backslashes begins none; of those of two hexadecimal digits the digits.
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|.)", re.DOTALL)


@lru_cache(maxsize=256)
def write_grammar(schema: str) -> str:
    """Return the grammar as EBNF. Takes a millisecond or some ten, and as much again at the first call.

    Raises:
        RuntimeError: xgrammar cannot make one of the schema, or nothing conforms to it.
    """
    grammar = Grammar.from_json_schema(schema, any_whitespace=True, max_whitespace_cnt=_MAX_BLANKS)
    return _ESCAPE.sub(_lengthen, str(grammar))


def _lengthen(escape: re.Match[str]) -> str:
    """Give a character four digits: xgrammar writes two, and reads all that follow, so that "ße" would become U+0DFE."""
    return rf"\u00{digits}" if (digits := escape[1]) else escape[0]
