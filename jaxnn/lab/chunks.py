"""The chunks of a training: progress is shown, signals wait for the end of a chunk, one of them is traced."""

import contextlib
import itertools
import logging
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from jaxtyping import PyTree

from jaxnn.lab import console

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Somebody asked the training to stop, and all that it had is saved."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped after step {step}; all is saved")
        self.signal_number = signal_number


class Chunks:
    """Iterates over the chunks of a training that are still to be done, as (the step at its end, its number of steps).

    `state` is where the training stands: the body of the loop puts there what its chunk has made of it.

    save: is given after each chunk its step, its state and its seconds; returns the numbers that progress shows.
    profile: the folder for a trace of the second chunk (the first one compiles), or of the only one.
    """

    def __init__(
        self,
        state: PyTree,
        done: int,
        total: int,
        *,
        every: int,
        save: Callable[[int, PyTree, float], dict[str, float]],
        unit: str = "steps",
        per_step: int = 1,
        profile: Path | None = None,
    ):
        self.state = state
        self._stops = [done, *range(done - done % every + every, total, every), total] if done < total else [done]
        self._save, self._unit, self._per_step, self._profile = save, unit, per_step, profile
        self._stop_signal: int | None = None
        self._open = contextlib.ExitStack()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """One after the other; each is saved before the next begins."""
        chunks = list(itertools.pairwise(self._stops))
        if not chunks:
            return
        total, done = (step * self._per_step for step in (self._stops[-1], self._stops[0]))
        before = time.perf_counter()
        with self._open:
            self._open.enter_context(self._signals_wait_for_a_checkpoint())
            report = self._open.enter_context(console.progress(console.stderr(), total, unit=self._unit, done=done))
            for number, (start, step) in enumerate(chunks):
                folder = self._profile if number == min(1, len(chunks) - 1) else None
                with _trace(folder) if folder else contextlib.nullcontext():
                    yield step, step - start
                    jax.block_until_ready(self.state)
                now = time.perf_counter()
                numbers = self._save(step, self.state, now - before)
                before = now
                report(step * self._per_step, {"step": step, **numbers})
                if self._stop_signal is not None:
                    break
        if self._stop_signal is not None:  # a signal that came after the last chunk counts, too
            raise StoppedError(self._stop_signal, step)

    def close(self):
        """Ends the progress that is shown where the loop was left by an error."""
        self._open.close()

    @contextlib.contextmanager
    def _signals_wait_for_a_checkpoint(self):
        def stop(number, frame):
            signal.signal(number, earlier[number])
            self._stop_signal = number
            log.info("stopping at the next checkpoint (the same signal again: at once)")

        earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in earlier:
                signal.signal(number, stop)
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _trace(folder: Path):
    with jax.profiler.trace(str(folder), create_perfetto_trace=True):
        yield
    newest = max(folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    log.info("open %s with https://ui.perfetto.dev", newest)
