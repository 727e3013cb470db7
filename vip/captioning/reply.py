"""Reply: what came of one request, and how a server's answer is read as one."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from vip.captioning.request import Request


@dataclass(slots=True)
class Reply:
    """What came of a request: a text, or the error that is its last word.

    Attributes:
        text: the model's answer, None where ``error`` says why there is none.
        finish_reason: as the server names it, such as ``stop`` or ``length``.
        attempts: how often it was sent; 1 where all went well.
        seconds: from sending to the whole answer, the last attempt.
        endpoint: base URL of the server.
    """

    request: Request
    text: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 0
    seconds: float = 0.0
    endpoint: str = ""

    def answer(self, model_id: str, server: str) -> dict[str, Any]:
        """The row that is kept of it, schema ANSWERS, answered now.

        Args:
            model_id, server: as the spec names them.
        """
        return {
            "request_id": self.request.request_id,
            "image_sha256": self.request.row.sample.image_sha256,
            "view": self.request.row.view.id,
            "region": self.request.row.region.id,
            "part": self.request.part,
            "draw": self.request.draw,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "error": self.error,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "attempts": self.attempts,
            "seconds": self.seconds,
            "answered_at": datetime.now(UTC),
            "model_id": model_id,
            "endpoint": self.endpoint,
            "server": server,
        }


def read_reply(request: Request, raw: bytes) -> tuple[Reply, str | None]:
    """Read a chat completion; returns the reply and the name of the model that says it gave it.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: where the body is no chat completion.
    """
    value, text, reason = read_chat(raw)
    usage = value.get("usage") or {}
    prompt, completion = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    reply = Reply(request, text or "", reason, prompt_tokens=prompt, completion_tokens=completion)
    return reply, value.get("model")


def read_chat(raw: bytes) -> tuple[dict[str, Any], str | None, str | None]:
    """The body of a chat completion, and the text and the finish reason of its first choice.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: where the body is no chat completion.
    """
    value = orjson.loads(raw)
    choice = value["choices"][0]
    text, reason = choice["message"]["content"], choice.get("finish_reason")
    if not isinstance(text, str | None) or not isinstance(reason, str | None):
        raise TypeError("content or finish_reason is no text")
    return value, text, reason


def _count(value: object) -> int | None:
    """A number of tokens, None for anything else: what a server counts is no reason to lose its answer."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def error_text(status: int, raw: bytes) -> str:
    """Status and message of an error answer, on one line."""
    text = raw[:2000].decode(errors="replace")
    try:
        value = json.loads(raw)
        error = value.get("error", value)
        text = error.get("message", text) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        pass
    # A server may quote half a character, which no file can hold.
    line = str(text).encode(errors="replace").decode()
    return f"{status}: {' '.join(line.split())[:300]}"
