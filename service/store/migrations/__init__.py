"""The migrations of the case store's tables. `service.store.revisions` runs them.

A revision is a file in `versions`, numbered `0001`, `0002`, … without branches. To add one:

1. Change `service.store.tables`.
2. Let `veridask db upgrade` create a store of the newest revision in a new folder.
3. Run `alembic -x url=sqlite:///FOLDER/cases.sqlite revision --autogenerate --rev-id 0003 --message "…"`.
4. Review the file: autogenerate detects neither triggers nor renamed columns.

A released revision is never changed. Each runs on SQLite and PostgreSQL. Processes of the previous release keep working
on its tables until they are replaced, so drop what is no longer used one release later. There are no downgrades:
restore a backup instead.
"""
