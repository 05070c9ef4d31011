"""A device's memory that never runs out and takes nothing."""


class PlentyOfMemory:
    """Keeps the promises of the worker's `Memory` for tests that limit nothing."""

    def limit(self, limit_bytes: int) -> None:
        """Take note of nothing."""

    def lift(self) -> None:
        """Do nothing."""

    def begin_phase(self) -> None:
        """Do nothing."""

    def peak_bytes(self) -> int:
        """Return what was taken."""
        return 0

    def note(self) -> None:
        """Do nothing."""

    def require_kernel_room(self, room_bytes: int) -> None:
        """Do nothing: there is always room."""

    def used_peak_bytes(self) -> int:
        """Return what was used."""
        return 0
