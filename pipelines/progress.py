"""One line that shows how far a long job is."""

import sys
import time
from typing import TextIO


class ProgressLine:
    """Writes a job's progress: on a terminal in place, elsewhere a line every few seconds.

    Args:
        job: Name that starts the line.
        every_seconds: Least time between two lines, in seconds.
        out: Where it is written.
    """

    def __init__(self, job: str, every_seconds: float = 5.0, out: TextIO = sys.stderr) -> None:
        self.job = job
        self.out = out
        self.in_place = out.isatty()
        self.every_seconds = 0.2 if self.in_place else every_seconds
        self.started = time.monotonic()
        self.last_written = float("-inf")
        self.first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, **figures: float) -> None:
        """Shows that `done` of `total` are done; figures are shown by name.

        Names that start with "wer" or "cer" are shown in percent.
        """
        now = time.monotonic()
        # The pace is that of this process: what it found done already took it no time.
        first_done, first_seen = self.first = self.first or (done, now)
        finished = done >= total
        if now - self.last_written < self.every_seconds and not finished:
            return
        self.last_written = now
        pace = (now - first_seen) / max(done - first_done, 1)
        known = done > first_done and not finished
        left = f"  {_clock((total - done) * pace)} left" if known else ""
        shown = "".join(f"  {_figure(name, value)}" for name, value in figures.items())
        line = f"{self.job}  {done}/{total}{shown}  {_clock(now - self.started)}{left}"
        end = "\n" if finished or not self.in_place else ""
        self.out.write((f"\r\x1b[K{line}" if self.in_place else line) + end)
        self.out.flush()


def _figure(name: str, value: float) -> str:
    if name.startswith(("wer", "cer")):
        return f"{name} {100 * value:.2f} %"
    if name == "audio_seconds_per_second":
        return f"{value:.0f} s/s"
    if name == "input_wait_share":
        return f"input wait {100 * value:.1f} %"
    return f"{name} {value:.4g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
