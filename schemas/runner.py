"""Runner: what carries out the tasks of a flow, and how many of them are alive at once."""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

T = TypeVar("T")


class Runner(BaseModel):
    """Threads of this process, or the workers of a Dask or Ray cluster. Nothing here can change a result.

    Attributes:
        kind: ``threads``, ``dask`` (needs ``vip-outpaint[dask]``) or ``ray`` (``vip-outpaint[ray]``).
        workers: threads, or processes of a cluster of our own on this host. For a cluster at ``address``, whose size it
            does not decide, the number of processes that captioning is spread over.
        address: of a cluster that runs already, such as ``tcp://10.0.0.7:8786`` or ``ray://10.0.0.7:10001``; its
            workers must reach the root, the source and the engines.
        wave: task runs alive at once; the next is submitted when one is over.
        tasks: task runs of one stage at most: where it has more shards, a task takes several neighbouring ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["threads", "dask", "ray"] = "threads"
    workers: int = Field(default=2, ge=1, le=4096)
    address: str | None = Field(default=None, min_length=1)
    wave: int = Field(default=64, ge=1, le=1024)
    tasks: int = Field(default=1000, ge=1, le=10_000)

    @model_validator(mode="after")
    def _has_a_cluster(self) -> "Runner":
        if self.kind == "threads" and self.address is not None:
            raise ValueError("threads have no address; choose kind dask or ray")
        return self

    @property
    def spread(self) -> bool:
        """Whether tasks run in other processes than the flow."""
        return self.kind != "threads"

    def slices(self, items: list[T]) -> list[tuple[T, ...]]:
        """``items`` in their order, cut into one piece a task."""
        size = max(1, -(-len(items) // self.tasks))
        return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


THREADS = Runner()
"""What a flow runs on where nothing else is asked for."""


def parse_runner(text: str) -> dict[str, Any]:
    """``dask,workers=4`` as settings of a :class:`Runner`: the kind, then settings by name.

    Raises:
        ValueError: where a part is no ``name=value``.
    """
    kind, *parts = text.split(",")
    settings: dict[str, Any] = {"kind": kind.strip()}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"'{part.strip()}' is no setting; write it as in dask,workers=4")
        settings[name.strip()] = value.strip()
    return settings
