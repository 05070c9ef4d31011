"""Alembic's home: one file in `versions` for each change of the schema, run in order when the service starts."""
