"""How endpoints are spoken to: with the key of the environment, without redirects, and never for endless bodies."""

import http.client
import os
import urllib.error
import urllib.request
from email.message import Message
from typing import IO, Any

from schemas.endpoint import API_KEY
from schemas.errors import VipError

LONGEST_BODY = 4 << 20
"""Bytes of a body that are read at most; an answer of 1 MB is a thousand times what a caption takes."""


def api_key() -> str | None:
    """The key in ``VIP_API_KEY``, or None.

    Raises:
        VipError: where it cannot stand in a header; the message does not repeat it.
    """
    key = os.environ.get(API_KEY, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise VipError(f"{API_KEY} holds what no header can carry", "use letters, digits and signs, no white space")
    return key or None


def auth_headers() -> dict[str, str]:
    """``Authorization`` where there is a key, else nothing."""
    key = api_key()
    return {"Authorization": f"Bearer {key}"} if key else {}


def fetch(url: str, body: bytes | None = None, timeout: float = 5.0) -> bytes:
    """GET, or POST of a JSON body, with the key.

    Args:
        url: http(s) only.
        timeout: seconds without a byte.

    Raises:
        VipError: where nothing answers, the answer is an error, a redirect or too large.
    """
    if not url.startswith(("http://", "https://")):
        raise VipError(f"'{url}' is no endpoint", "give a URL such as http://127.0.0.1:8000")
    headers = auth_headers() | ({"Content-Type": "application/json"} if body is not None else {})
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - http(s), see above
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            raw = answer.read(LONGEST_BODY + 1)
    except urllib.error.HTTPError as error:
        remedy = f"check {API_KEY}" if error.code in (401, 403) else "check the URL and what serves there"
        raise VipError(f"endpoint {url} answers {error.code} {error.reason}", remedy) from error
    except (http.client.HTTPException, urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise VipError(f"endpoint {url} does not answer: {reason}", "check the URL and that the server runs") from error
    if len(raw) > LONGEST_BODY:
        raise VipError(f"endpoint {url} answers more than {LONGEST_BODY:,} bytes", "check what serves there")
    return raw


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A server that sends us elsewhere would choose whom we talk to, and who sees the key."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Any:
        """Never follow; the redirect itself becomes the error."""
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
