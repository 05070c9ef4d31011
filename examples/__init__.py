"""Scripts a user would copy, and the demo."""
