"""What Alembic runs: the scripts of `versions`, on the connection that `harness.store.versions` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
