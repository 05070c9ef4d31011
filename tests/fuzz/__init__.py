"""Programs that a coverage-guided fuzzer drives; tests run them for a short while, people as long as they like."""
