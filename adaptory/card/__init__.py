"""The adapter card: what a version was made from, how it learned, what it scores and answers, on one page and as JSON."""
