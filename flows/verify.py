"""Verify: re-hash everything in a root, on a schedule."""

from dataclasses import asdict

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.alarm import raise_alarm
from flows.progress import reporting
from schemas.errors import VipError
from storage.backend import Backend
from vip.lineage.verify import verify as verify_root


@flow(name="verify", on_failure=[raise_alarm], on_crashed=[raise_alarm])
def verify(root: str) -> int:
    """Re-hash every file, follow every link.

    Returns:
        The number of files hashed.

    Raises:
        VipError: where anything is not as published; the problems stand in a table on Prefect's page.
    """
    with reporting() as progress:
        found = verify_root(Backend(root), progress)
    if not found.ok:
        create_table_artifact(key="problems", table=[asdict(one) for one in found.problems], description="Verify")
        raise VipError(
            f"{len(found.problems)} problems in {root}, the first in {found.problems[0].file}", "run `vip audit verify`"
        )
    return found.files
