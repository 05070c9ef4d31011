"""One engine among those that a measurement compares: its program and the process it runs in."""
