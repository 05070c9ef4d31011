"""Sizes as people write them."""

import pytest

from adaptory.cli.sizes import format_bytes, parse_bytes
from adaptory.core.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1GiB", 2**30),
        ("8 GiB", 2**33),
        ("512mib", 2**29),
        ("1.5GB", 1_500_000_000),
        ("2G", 2**31),
        ("0", 0),
        ("7b", 7),
    ],
)
def test_sizes_are_read(text: str, size_bytes: int) -> None:
    """Units of 1024 and of 1000 are told apart, whatever their case."""
    assert parse_bytes(text, field="--limit") == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "1 parsec", "-1GiB", "1e9"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    """A refusal shows how to write a size."""
    with pytest.raises(InvalidRequest, match="8GiB"):
        parse_bytes(text, field="--limit")


def test_sizes_are_written_with_their_unit() -> None:
    """A size can be read at a glance."""
    assert [format_bytes(value) for value in (2048, 3 * 2**20, 2**30, 20 * 2**30)] == [
        "2.0 KiB",
        "3 MiB",
        "1,024 MiB",
        "20.0 GiB",
    ]
