"""The script that alembic runs for each command.

`service.store.revisions` passes the connection, with its transaction and lock. Only `alembic revision`, which
developers run, comes without one. Logging is not configured here.
"""

from __future__ import annotations

from contextlib import nullcontext

from alembic import context

from service.store.database import Database
from service.store.tables import Base

attributes = context.config.attributes

if context.is_offline_mode():
    context.configure(dialect_name=attributes["dialect"], literal_binds=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    given = attributes.get("connection")
    if given is None and "url" not in (named := context.get_x_argument(as_dictionary=True)):
        raise SystemExit("name the database: alembic -x url=sqlite:///FOLDER/cases.sqlite revision …")
    with nullcontext(given) if given is not None else Database(named["url"]).changing_tables() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
