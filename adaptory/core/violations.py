"""Gathers everything wrong with one request, so that a caller learns of all of it at once."""

from adaptory.core.errors import FieldViolation, InvalidRequest


class Violations:
    """Collects violations; `raise_if_any` turns them into one error."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: list[FieldViolation] = []

    def check(self, *, field: str, is_good: bool, sentence: str) -> None:
        """Note that `field` is bad, unless `is_good`; the sentence says what is wrong, the limit and the way out."""
        if not is_good:
            self._found.append(FieldViolation(field, sentence))

    def check_length(self, text: str, *, field: str, limit: int) -> None:
        """Note a text of more than `limit` characters."""
        self.check(
            field=field, is_good=len(text) <= limit, sentence=f"has {len(text)} characters; at most {limit} are taken"
        )

    def add(self, error: InvalidRequest) -> None:
        """Note what another check has found."""
        self._found += error.violations

    def raise_if_any(self) -> None:
        """Raise InvalidRequest that names every violation, or do nothing."""
        if self._found:
            sentences = "; ".join(f"{violation.field}: {violation.description}" for violation in self._found)
            metadata = {"num_violations": len(self._found)}
            raise InvalidRequest(sentences, violations=self._found, metadata=metadata)
