"""The serving measurement's two sides, each run in a process of its own: serve_svc over gRPC, and bare AsyncLLM."""
