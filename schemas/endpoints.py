"""Endpoints: where engines answer, as a list, or as something that is looked at again while a run goes on."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Endpoints(BaseModel):
    """One of three; all empty: a server of our own.

    Attributes:
        urls: base URLs, which stay as they are.
        file: text with one URL a line, or a JSON list; read again as it changes.
        discovery: URL that answers with the same; asked every few seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: tuple[str, ...] = ()
    file: str | None = Field(default=None, min_length=1)
    discovery: str | None = Field(default=None, pattern="^https?://")

    @model_validator(mode="after")
    def _one_of_them(self) -> "Endpoints":
        if bool(self.urls) + bool(self.file) + bool(self.discovery) > 1:
            raise ValueError("endpoints are given as a list, a file or a discovery URL; give one of them")
        return self

    @property
    def changing(self) -> bool:
        """Whether engines may come and go while a run goes on."""
        return bool(self.file or self.discovery)

    def __bool__(self) -> bool:
        """Whether any are given."""
        return bool(self.urls) or self.changing
