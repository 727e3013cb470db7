"""Remote file systems: one way to open a URL, credentials from the environment only, failures in one line."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from schemas.errors import VipError

STREAM_BLOCK = 4 << 20
"""Bytes that a stream asks for at a time; s3fs would take 50 MiB for one image of a shard."""

_S3 = ("s3", "s3a")
_SECRET = re.compile(r"secret|token|password|signature|credential|^sig$|^key$", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Whether ``path`` is for fsspec; a local path is normalised and holds no ``://``."""
    return "://" in path


def is_s3(url: str) -> bool:
    """Whether the URL is of an S3 bucket."""
    return url.split("://", 1)[0] in _S3


def open_remote(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path as that file system knows it.

    Listings are not cached, since other machines write to the same bucket.

    Raises:
        VipError: where the URL carries credentials, or no installed file system knows it.
    """
    refuse_credentials(url)
    import fsspec

    options = {"use_listings_cache": False} if is_s3(url) else {}
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
    except (ValueError, ImportError) as error:
        raise VipError(f"{url}: {error}", "give a folder or a URL that fsspec knows") from error
    if is_s3(url):
        _retry_conflicts()
    return files, path


def refuse_credentials(url: str) -> None:
    """A URL is written to logs and to Prefect's database, so nothing secret may be part of it.

    Raises:
        VipError: for a URL with a user, a password or a signature, or one that is none; it repeats no part of the URL.
    """
    if not is_url(url):
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        raise VipError("a URL is none: its brackets do not hold an address", "give it as scheme://host/path") from None
    named = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if "@" in parts.netloc or any(_SECRET.search(name) for name in named):
        raise VipError(
            f"a {parts.scheme}:// URL carries credentials, which would end up in logs",
            "leave them out of the URL and set them in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...)",
        )


@contextlib.contextmanager
def told_in_one_line(url: str) -> Iterator[None]:
    """Turn what a remote file system raises into one line; that an object is there or not stays as it is.

    Raises:
        FileNotFoundError, FileExistsError: as they come, but for a bucket that does not exist.
        VipError: for everything else.
    """
    try:
        yield
    except FileNotFoundError as error:
        if error_code(error) == "NoSuchBucket":
            raise VipError(f"{url}: there is no such bucket", "make it first, or mend the URL") from error
        raise
    except (FileExistsError, VipError, MemoryError):
        raise
    except PermissionError as error:
        raise VipError(f"{url}: access denied ({_line(error)})", "check the credentials in the environment") from error
    except Exception as error:
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            raise VipError(f"{url}: {_line(error)}", "set the credentials in the environment") from error
        what = f"{url}: the store does not answer as it should ({type(error).__name__}: {_line(error)})"
        raise VipError(what, "what was done is kept; run again when it is well") from error


def error_code(error: BaseException) -> str:
    """What the server called it, such as ``NoSuchBucket``; empty where it did not say."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _retry_conflicts() -> None:
    """S3 answers 409 where two conditional writes meet, and asks for another try."""
    from s3fs.core import set_custom_error_handler

    set_custom_error_handler(lambda error: error_code(error) == "ConditionalRequestConflict")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
