"""The `adaptory` command: starts the services, and does over gRPC what an operator or a tenant does by hand."""
