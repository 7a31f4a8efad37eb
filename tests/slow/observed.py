"""``m3e`` in a process that notes what it writes, and dies or fails where it is told to: ``observed.py ARGUMENTS…``.

Environment:
    OBSERVED_FOLDER: only what lies in it counts.
    OBSERVED_NOTES: a file, to whose name the process's rank is added: a line each write, and one each look at a model.
    OBSERVED_DEATH: ``FRAGMENT`` or ``FRAGMENT#N``: die by SIGKILL before the Nth write of a path with that in it.
    OBSERVED_FAILURE: rank whose third training step fails.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

WRITES = ("os.rename", "os.mkdir", "os.link", "os.remove", "shutil.rmtree")
RANK = os.environ.get("RANK", "0")
FOLDER = os.environ.get("OBSERVED_FOLDER", "")


def watch_writes() -> None:
    fragment, _, count = os.environ.get("OBSERVED_DEATH", "").partition("#")
    left = int(count or 1)
    notes = os.environ.get("OBSERVED_NOTES")
    descriptor = os.open(f"{notes}.{RANK}", os.O_WRONLY | os.O_CREAT | os.O_APPEND) if notes else None

    def observe(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        opens = event == "open" and len(arguments) > 2 and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if not opens and event not in WRITES:
            return
        paths = [os.fsdecode(each) for each in arguments[:2] if isinstance(each, str | bytes | os.PathLike)]
        paths = [path for path in paths if FOLDER in os.path.abspath(path)]  # noqa: PTH100  # resolving opens files
        if descriptor is not None:
            for path in paths:
                os.write(descriptor, f"write {path}\n".encode())
        if fragment and any(fragment in path for path in paths):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(observe)


def watch_looks() -> None:
    from m3e.training import looks

    real, notes = looks.measure, os.environ.get("OBSERVED_NOTES")

    def measured(*arguments: Any) -> dict[str, float]:
        if notes:
            with open(f"{notes}.{RANK}", "a", encoding="utf-8") as stream:
                stream.write("look\n")
        return real(*arguments)

    looks.measure = measured


def fail_at_third_step() -> None:
    from m3e.errors import M3EError
    from m3e.training.planned_trainer import PlannedTrainer

    real, steps = PlannedTrainer.training_step, []

    def step(self: PlannedTrainer, *arguments: Any, **options: Any) -> Any:
        steps.append(None)
        if len(steps) == 3:
            raise M3EError(f"the disk of process {RANK} is gone; plug it in")
        return real(self, *arguments, **options)

    PlannedTrainer.training_step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    watch_writes()
    if os.environ.get("OBSERVED_NOTES"):
        watch_looks()
    if os.environ.get("OBSERVED_FAILURE") == RANK:
        fail_at_third_step()
    from m3e.cli import main

    main()
