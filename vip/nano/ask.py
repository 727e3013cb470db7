"""Put the nano captioner's three questions to a served endpoint; the plain way, for scoring."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import VipError
from vip.interruptible import run_interruptible
from vip.nano.truth import png
from vip.serving.http import auth_headers

IN_FLIGHT = 32
MAX_ANSWER_TOKENS = 64


@dataclass(frozen=True)
class Question:
    """One request: pixels uint8 [H, W, 3], the instruction, and how to sample the answer."""

    pixels: np.ndarray
    text: str
    temperature: float = 0.0
    seed: int = 0


def ask(endpoint: str, questions: Sequence[Question]) -> list[str]:
    """Answers of the model at ``endpoint`` (base URL, with or without ``/v1``), in the order of the questions.

    Raises:
        VipError: where the endpoint does not answer, or answers with an error.
    """
    return run_interruptible(_ask(endpoint.rstrip("/").removesuffix("/v1"), questions))


async def _ask(base: str, questions: Sequence[Question]) -> list[str]:
    import aiohttp

    gate = asyncio.Semaphore(IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=300)
    # vLLM hangs up on a connection that is idle for 5 s; one that was idle for long is not used again.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
    try:
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, raise_for_status=True, headers=auth_headers()
        ) as session:
            async with session.get(f"{base}/v1/models") as response:
                model = (await response.json())["data"][0]["id"]

            async def one(question: Question) -> str:
                async with gate, session.post(f"{base}/v1/chat/completions", json=_body(model, question)) as response:
                    return (await response.json())["choices"][0]["message"]["content"] or ""

            return list(await asyncio.gather(*(one(question) for question in questions)))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise VipError(f"endpoint {base}: {error or type(error).__name__}", "start one with `vip serve`") from error


def _body(model: str, question: Question) -> dict[str, object]:
    url = "data:image/png;base64," + base64.b64encode(png(question.pixels)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question.text}]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "temperature": question.temperature,
        "seed": question.seed,
        "max_tokens": MAX_ANSWER_TOKENS,
    }
