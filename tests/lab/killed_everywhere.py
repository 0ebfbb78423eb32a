"""The toy experiment, killed at its n-th call that changes a file, for every n, and resumed each time.

As a process of its own: it forks, which must happen before JAX starts its threads.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

import toy_experiment

from jaxnn.lab.start import start

CHANGES = "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"


def run(*arguments, kill_at=None):
    """In a process of its own: its exit status, -9 where it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.argv = ["toy_experiment", *map(str, arguments)]
    folder, calls, fsync = str(arguments[-1]), itertools.count(1), os.fsync

    def count():
        if next(calls) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync_and_count(descriptor):
        count()  # what was written may be lost, or not
        fsync(descriptor)

    sys.addaudithook(lambda event, args: event in CHANGES and str(args[0]).startswith(folder) and count())
    os.fsync = fsync_and_count
    start(toy_experiment.Config, toy_experiment.main, quick=toy_experiment.Config(), resumable=True)
    os._exit(0)


def main(folder: Path):
    """Leaves a folder for each place."""
    for number in itertools.count(1):
        directory = folder / f"killed_{number}"
        if run("--out", directory, kill_at=number) == 0:
            break
        began = (directory / "config.json").exists()
        if run("--resume" if began else "--out", directory) != 0:
            sys.exit(f"{directory} cannot be resumed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
