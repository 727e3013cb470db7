"""The errors a user can act on."""


class VipError(Exception):
    """A failure with a reason and a remedy, shown to the user as one line.

    Args:
        reason: what was wrong, naming the file, row or setting.
        remedy: what the user can do about it; empty where nothing is to be done.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{reason}; {remedy}" if remedy else reason)

    def __reduce__(self) -> tuple[type["VipError"], tuple[str, str]]:
        """Two parts also on the way back from another process."""
        return type(self), (self.reason, self.remedy)
