"""Endpoint: the URL of a server, which stands in configs, records and Prefect's database, and so may hold no secret."""

from schemas.errors import VipError

API_KEY = "VIP_API_KEY"
"""Environment variable with the key that our servers demand and every endpoint is shown; it is written nowhere."""


def refuse_secrets(endpoint: str) -> str:
    """The endpoint as it is.

    Raises:
        VipError: where it holds a user, a password or a query; those are not repeated.
    """
    if "@" in endpoint or "?" in endpoint:
        raise VipError("an endpoint holds a user, a password or a query", f"give the bare URL, and a key in {API_KEY}")
    return endpoint
