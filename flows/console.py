"""What a person reads while a run goes on: calm lines on standard error."""

import sys
import threading
import time

_LINE_SECONDS = 10.0  # a log gets a line this often; a terminal is redrawn ten times a second at most


class Console:
    """One writer for all threads of a run: a live line on a terminal, a line now and then in a log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._terminal = sys.stderr.isatty()
        self._drawn = 0
        self._last: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self.quiet = False

    def say(self, text: str) -> None:
        """Print one line."""
        if self.quiet:
            return
        with self._lock:
            self._clear()
            print(text, file=sys.stderr, flush=True)

    def progress(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Show that ``done`` of ``total`` of ``what`` are finished; the last one always gets a line."""
        if self.quiet:
            return
        with self._lock:
            now = time.monotonic()
            began = self._began.setdefault(what, now)
            last = self._last.get(what, began if not self._terminal else 0.0)
            finished = total > 0 and done >= total
            if last == float("inf"):
                if finished:
                    return
                self._began[what] = self._last[what] = last = now  # the same work begins again, as with a second spec
            if not finished and now - last < (0.1 if self._terminal else _LINE_SECONDS):
                return
            self._last[what] = float("inf") if finished else now
            line = (
                f"  {what}: {done:,} of {total:,}{time_left(done, total, now - began)}{', ' + detail if detail else ''}"
            )
            if not self._terminal:
                print(line, file=sys.stderr, flush=True)
                return
            self._clear()
            if finished:
                print(line, file=sys.stderr, flush=True)
            else:
                sys.stderr.write(line[:110])
                sys.stderr.flush()
                self._drawn = 1

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[2K")
            self._drawn = 0


def time_left(done: int, total: int, seconds: float) -> str:
    """Such as ``, 40 s left`` after ``seconds`` of work; empty where it is too early to say, or over."""
    if done <= 0 or seconds < 2 or done >= total:
        return ""
    left = seconds * (total - done) / done
    if left < 90:
        return f", {left:.0f} s left"
    return f", {left / 60:.0f} min left" if left < 5400 else f", {left / 3600:.1f} h left"


console = Console()
