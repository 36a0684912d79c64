"""The case store's tables, revision by revision. `service.store.revisions` brings a database from one to the next.

A revision is a file in `versions`, numbered `0001`, `0002`, … in one line. To make one: change `service.store.tables`,
have `veridask db upgrade` make a store of the newest revision in a folder of its own, then `VERIDASK_DATA_DIR=FOLDER
alembic revision --autogenerate --rev-id 0003 --message "…"`, and read what it wrote: it sees neither triggers nor
renamings.

What holds of each: it is never changed once it was released. It runs on SQLite and on PostgreSQL. Processes of the
release before go on working on its tables until they are replaced: what is no longer used is dropped a release later.
There is no way back but a backup.
"""
