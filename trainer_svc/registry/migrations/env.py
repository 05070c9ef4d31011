"""Alembic's entry: it runs this file for each migration, on the connection that `database.py` hands over."""

from alembic import context

from trainer_svc.registry.tables import metadata

# SQLite can roll DDL back once BEGIN is ours; without this a failed migration would stay half done.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
