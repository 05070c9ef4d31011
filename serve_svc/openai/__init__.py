"""OpenAI's HTTP interface: the same answers as over gRPC, by the same path, for tools that speak it."""
