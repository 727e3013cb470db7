"""Prefect's runs in PostgreSQL instead of SQLite, by one setting."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
from postgres_server import PASSWORD, postgres_server

from flows.server import DATABASE, prefect_server
from schemas.errors import VipError
from tests.vip.captioning.helpers import write_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def clean(monkeypatch):
    for name in list(os.environ):
        if name.startswith("PREFECT_"):
            monkeypatch.delenv(name)


def rows(database, query):
    async def ask():
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    return [tuple(row) for row in asyncio.run(ask())]


@pytest.mark.parametrize("url", ["postgres://me:hush@host/db", "postgresql+psycopg2://me:hush@host/db", "hush"])
def test_a_database_that_prefect_does_not_know_is_refused_unrepeated(url, tmp_path, clean, monkeypatch):
    monkeypatch.setenv(DATABASE, url)
    with pytest.raises(VipError, match=DATABASE) as caught, prefect_server(tmp_path / "prefect", tmp_path / "log"):
        pass
    assert "hush" not in str(caught.value)


@pytest.mark.slow
def test_a_run_is_kept_in_postgresql_and_its_password_nowhere(database, tmp_path, clean, monkeypatch):
    """`vip shard` as a user calls it; then the run is asked for in the database."""
    monkeypatch.setenv(DATABASE, database)
    write_images(tmp_path / "images", 12)
    root = tmp_path / "root"
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "shard",
        str(tmp_path / "images"),
        "--name",
        "few",
        "--root",
        str(root),
    ]
    running = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = set()
    while running.poll() is None:
        for one in psutil.Process().children(recursive=True):
            try:
                seen.add(" ".join(one.cmdline()))
            except psutil.Error:
                continue
        try:
            running.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    said, errors = running.communicate()
    assert running.returncode == 0, errors
    flow_runs = rows(database, "SELECT f.name, r.state_name FROM flow_run r JOIN flow f ON f.id = r.flow_id")
    assert ("shard", "Completed") in flow_runs
    assert rows(database, "SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'") > [(0,)]
    assert not list(root.rglob("prefect.db*"))

    assert any("prefect server start" in line for line in seen) and not any(PASSWORD in line for line in seen)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.name == "manifest.json" for path in files) and any(
        path.name.startswith("prefect-") for path in files
    )
    assert [path for path, data in files.items() if PASSWORD.encode() in data] == []
    assert PASSWORD not in said + errors
    tables = [name for (name,) in rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    assert len(tables) > 20
    held = [name for name in tables if any(PASSWORD in str(row) for row in rows(database, f'SELECT * FROM "{name}"'))]
    assert held == []


@pytest.mark.slow
def test_a_wrong_password_ends_with_one_line_that_repeats_none(database, tmp_path, clean, monkeypatch):
    monkeypatch.setenv(DATABASE, database.replace(PASSWORD, "wrong-but-hush"))
    log = tmp_path / "prefect.log"
    with pytest.raises(VipError, match="Prefect's server ended") as caught, prefect_server(tmp_path / "prefect", log):
        pass
    assert "password authentication failed" in log.read_text()
    assert "hush" not in str(caught.value) + log.read_text()
