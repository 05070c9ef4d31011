"""Training jobs: their records, the child process of each, and the files the two exchange."""
