"""What a reader told while it read."""

from collections import Counter


class Told:
    """Keeps errors and warnings, each as (line, reason), and every sentence."""

    def __init__(self) -> None:
        """Begin with none."""
        self.errors: list[tuple[int, str]] = []
        self.warnings: list[tuple[int, str]] = []
        self.sentences: list[str] = []

    def add_error(self, line: int, reason: str, description: str) -> None:
        """Keep an error."""
        self.errors.append((line, reason))
        self.sentences.append(description)

    def add_warning(self, line: int, reason: str, description: str) -> None:
        """Keep a warning."""
        self.warnings.append((line, reason))
        self.sentences.append(description)

    @property
    def num_by_reason(self) -> Counter[str]:
        """How often each reason was told."""
        return Counter(reason for _, reason in self.errors + self.warnings)
