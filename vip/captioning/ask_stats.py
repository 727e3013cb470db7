"""Ask stats: what asking took, of one process or of several."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class AskStats:
    """What asking took.

    Attributes:
        requests: answered now.
        recovered: answers that a killed run had left in its journal.
        rejected: of the answers now, by reason, as far as one answer alone tells.
        seconds, cpu_seconds: of this process, wall clock and CPU.
        stopped: which budget stopped it before the end; empty where none did.
    """

    requests: int = 0
    recovered: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    throttled: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    most_in_flight: int = 0
    by_endpoint: dict[str, int] = field(default_factory=dict)
    stopped: str = ""

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def tokens(self) -> int:
        """Tokens read and written by the model."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "AskStats") -> "AskStats":
        """Both together, as far as a budget counts it."""
        return AskStats(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            seconds=self.seconds + other.seconds,
        )

    @classmethod
    def side_by_side(cls, parts: "Sequence[AskStats]") -> "AskStats":
        """What several processes did at the same time."""
        rejected, by_endpoint = Counter[str](), Counter[str]()
        for part in parts:
            rejected.update(part.rejected)
            by_endpoint.update(part.by_endpoint)
        counts = ("requests", "recovered", "prompt_tokens", "completion_tokens", "retries", "throttled", "cpu_seconds")
        return cls(
            **{name: sum(getattr(part, name) for part in parts) for name in (*counts, "most_in_flight")},
            rejected=dict(sorted(rejected.items())),
            by_endpoint=dict(by_endpoint),
            seconds=max((part.seconds for part in parts), default=0.0),
            stopped=next((part.stopped for part in parts if part.stopped), ""),
        )
