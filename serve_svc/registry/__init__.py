"""What a server hears of the registry and tells it, and what it keeps of that on disk."""
