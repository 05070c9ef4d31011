"""That a schema which the registry takes is enforced, all of it, by the grammar that the engine makes of it.

The engine's own grammar library speaks at random, as a model without any sense would, and `jsonschema` judges what it says.
"""

import json
import random

import numpy as np
import pytest
import xgrammar
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from serve_svc.engine.grammar import write_grammar
from trainer_svc.bots.answer_schema import check_answer_schema

pytestmark = pytest.mark.filterwarnings("ignore")

# A model whose tokens are single bytes: its grammars compile at once.
_END = 256
_BYTES = xgrammar.TokenizerInfo(
    [*(bytes([byte]) for byte in range(_END)), b"</s>"], xgrammar.VocabType.RAW, stop_token_ids=[_END]
)
_MAX_TOKENS = 600


def speak(schema: str, chance: random.Random) -> str | None:
    """Say something at random by the grammar of the schema; None where it takes no end."""
    compiler = xgrammar.GrammarCompiler(_BYTES, cache_enabled=False)
    matcher = xgrammar.GrammarMatcher(compiler.compile_grammar(xgrammar.Grammar.from_ebnf(write_grammar(schema))))
    mask, said = xgrammar.allocate_token_bitmask(1, _END + 1), bytearray()
    for _ in range(_MAX_TOKENS):
        matcher.fill_next_token_bitmask(mask)
        allowed = np.flatnonzero(np.unpackbits(mask.numpy().view(np.uint8), bitorder="little")[: _END + 1]).tolist()
        # Mostly what ends things: a choice of bytes alone would go on in its first text.
        ending = [token for token in allowed if token == _END or (chance.random() < 0.3 and chr(token) in '"}],')]
        token = chance.choice(ending or allowed)
        if token == _END:
            return said.decode()
        assert matcher.accept_token(token)
        said.append(token)
    return None


def is_conforming(answer: str, schema: str) -> bool:
    """Tell whether an answer conforms, its formats too."""
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(json.loads(schema), format_checker=checker).is_valid(json.loads(answer))


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
names = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn"), exclude_characters='"\\'),
    min_size=1,
    max_size=6,
)
whole = st.integers(-1000, 1000)


def spans(low: str, high: str, values: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, float]]:
    """Draw two bounds, either, or none, in order."""
    both = st.tuples(values, values).map(lambda pair: {low: min(pair), high: max(pair)})
    return st.one_of(
        both, both.map(lambda span: {low: span[low]}), both.map(lambda span: {high: span[high]}), st.just({})
    )


def typed(name: str, rest: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[dict[str, object]]:
    """Draw schemas of a type."""
    return rest.map(lambda keywords: {"type": name, **keywords})


leaves = st.one_of(
    typed("string", spans("minLength", "maxLength", st.integers(0, 40))),
    typed("string", st.sampled_from(["email", "uuid"]).map(lambda name: {"format": name})),
    typed("integer", spans("minimum", "maximum", whole)),
    typed("integer", spans("exclusiveMinimum", "maximum", whole).filter(lambda span: len(span) < 2)),
    typed("number", spans("minimum", "maximum", st.one_of(whole, st.floats(-100, 100).map(lambda x: round(x, 3))))),
    typed(
        "number",
        spans("exclusiveMinimum", "exclusiveMaximum", whole).filter(lambda span: len(set(span.values())) == len(span)),
    ),
    typed("boolean", st.just({})),
    typed("null", st.just({})),
    st.lists(st.one_of(texts, whole, st.booleans(), st.none()), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    texts.map(lambda value: {"const": value}),
)


def objects(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Draw schemas of objects, some of whose properties are required."""
    properties = st.dictionaries(names, values, min_size=1, max_size=3)
    return properties.flatmap(
        lambda named: st.lists(st.sampled_from(sorted(named)), unique=True).map(
            lambda required: {"type": "object", "properties": named, "required": required}
        )
    )


def nested(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Draw schemas that hold others."""
    arrays = st.tuples(values, spans("minItems", "maxItems", st.integers(0, 4))).map(
        lambda pair: {"type": "array", "items": pair[0], **pair[1]}
    )
    unions = st.lists(values, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
    return st.one_of(objects(values), arrays, unions)


schemas = objects(st.recursive(leaves, nested, max_leaves=6))
# A character below U+0100 with a hexadecimal digit after it; and a backslash before what looks like such a character.
STREET = {"type": "object", "properties": {"Straße": {"const": "Übach ¡0"}}, "required": ["Straße"]}
PATHS = {"type": "object", "properties": {"path": {"enum": ["C:\\xa10", "\x7f0"]}}, "required": ["path"]}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas, st.randoms(use_true_random=False))
@example(STREET, random.Random(0))
@example(PATHS, random.Random(0))
def test_every_answer_by_a_schema_that_is_taken_conforms(schema: dict[str, object], chance: random.Random) -> None:
    """Whatever a model is about to say, by a schema that passes the registry it can only say what conforms."""
    text = json.dumps(schema)
    check_answer_schema(text)

    answers = [answer for _ in range(4) if (answer := speak(text, chance)) is not None]

    assert all(is_conforming(answer, text) for answer in answers), (text, answers)
