"""A PostgreSQL server of the tests' own: its files in a temporary folder, reached through a socket there alone."""

from __future__ import annotations

import os
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
    """The folder of PostgreSQL's programs, the newest where Debian has several; None without any."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The folder of a running server's socket. Skips where PostgreSQL is not installed."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    user = OWNER if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    with TemporaryDirectory(prefix="veridask-pg-", dir="/tmp") as root:
        if user:
            shutil.chown(root, user)
        data, options = f"{root}/data", f"-k {root} -c listen_addresses='' -c fsync=off"
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "user": user, "cwd": root}
        subprocess.run([folder / "initdb", "-D", data, "-U", OWNER, "--auth", "trust", "--no-sync"], **quiet)  # type: ignore[call-overload]
        subprocess.run([folder / "pg_ctl", "-D", data, "-o", options, "-l", f"{root}/log", "-w", "start"], **quiet)  # type: ignore[call-overload]
        yield Path(root)
        subprocess.run([folder / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]


@pytest.fixture
def postgres_database(postgres: Path) -> str:
    """SQLAlchemy URL of a new database."""
    name = f"cases_{uuid.uuid4().hex}"
    with psycopg.connect(host=str(postgres), user=OWNER, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://{OWNER}@/{name}?host={postgres}"
