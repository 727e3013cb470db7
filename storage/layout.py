"""Layout: where the objects of an artifact lie below a root."""


def artifact_folder(kind: str, key: str, digest: str) -> str:
    """Where the files of an artifact lie."""
    return f"artifacts/{kind}/{key}/{digest[:16]}"
