"""Discovery: which engines there are now."""

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path

from schemas.endpoints import Endpoints
from schemas.errors import VipError
from vip.serving.identity import base_url, served_models

_SECONDS = 5.0
_MOST_BYTES = 1 << 20


def find_endpoints(given: Endpoints) -> list[str]:
    """The base URLs that are named now, each once, in their order.

    Raises:
        VipError: where the file or the URL cannot be read, or names something that is no endpoint.
    """
    if given.file is not None:
        where, text = given.file, _read_file(given.file)
    elif given.discovery is not None:
        where, text = given.discovery, _read_url(given.discovery)
    else:
        return list(dict.fromkeys(base_url(url) for url in given.urls))
    return list(dict.fromkeys(base_url(url) for url in _parse(where, text)))


def first_endpoint(given: Endpoints) -> str | None:
    """The first that answers, or the only one; None where none are given at all.

    Raises:
        VipError: as :func:`find_endpoints`, and where a file or URL names none, or none of several answers.
    """
    if not given:
        return None
    found = find_endpoints(given)
    if not found:
        raise VipError(f"{given.file or given.discovery} names no endpoint", "start engines with `vip serve` first")
    return _first_that_answers(found) if len(found) > 1 else found[0]


def _first_that_answers(urls: list[str]) -> str:
    """One that is down now is no reason to start nothing: the others go on without it, as they do in a run."""
    silent: list[VipError] = []
    for url in urls:
        try:
            served_models(url)
        except VipError as error:
            silent.append(error)
            continue
        return url
    raise VipError("; ".join(error.reason for error in silent), silent[0].remedy)


def _parse(where: str, text: str) -> list[str]:
    """URLs from a JSON list, ``{"endpoints": [...]}``, or lines, of which those that begin with ``#`` are comments."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise VipError(
                f"{where} begins as JSON and is none ({error})", "give a JSON list, or a URL a line"
            ) from None
        value = value.get("endpoints") if isinstance(value, dict) else value
        if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
            raise VipError(f"{where} holds no list of URLs", 'give ["http://host:port", ...], or a URL a line')
        return value
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VipError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}", "name another file"
        ) from None


def _read_url(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - the model admits http(s) only
            return str(answer.read(_MOST_BYTES).decode("utf-8"))
    except (http.client.HTTPException, urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise VipError(f"{url} does not say which endpoints there are: {reason}", "check the discovery URL") from None
