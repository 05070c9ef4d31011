"""The life of adapters on a server: from the registry to its disk, into the engine, and out again."""
