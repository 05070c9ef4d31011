"""Writes the grammar by which the engine keeps an answer to a JSON schema.

vLLM would make one of the schema itself, in which any number of blanks may stand between two tokens of JSON: a small model that has
lost its way then says blanks to the end of its answer. In ours there is one at most, as in what `json.dumps` writes.
"""

from functools import lru_cache

from xgrammar import Grammar

_MAX_BLANKS = 1


@lru_cache(maxsize=256)
def write_grammar(schema: str) -> str:
    """Return the grammar as EBNF. Takes a millisecond or some ten, and as much again at the first call.

    Raises:
        RuntimeError: xgrammar cannot make one of the schema, or nothing conforms to it.
    """
    return str(Grammar.from_json_schema(schema, any_whitespace=True, max_whitespace_cnt=_MAX_BLANKS))
