"""Kinds of jobs that only these tests know. Each writes down what it does, one line a step: WHAT PID."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from labeling.services import jobs


@jobs.handler("diary")
def diary(running: jobs.Running) -> dict[str, Any]:
    """Works until the file `until` is there, or not at all without one."""
    note(running, "begun")
    try:
        while (gate := running.params.get("until")) and not Path(gate).exists():
            running.report(0.5)
            time.sleep(0.1)
        with running.holding():
            note(running, "done")
    except jobs.LostLease:
        note(running, "refused")
        raise
    except jobs.HandedBack:
        note(running, "handed back")
        raise
    return {"by": os.getpid()}


@jobs.handler("poison")
def poison(running: jobs.Running) -> None:
    """Takes its worker with it."""
    note(running, "begun")
    os.kill(os.getpid(), signal.SIGKILL)


def note(running: jobs.Running, what: str) -> None:
    with Path(running.params["diary"]).open("a") as file:
        file.write(f"{what} {os.getpid()}\n")
