"""`python -m tests.faults.wrong_clock SECONDS MODULE …`: runs a module whose idea of the time is wrong."""

import runpy
import sys
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

WRONG_BY: Final = timedelta(seconds=int(sys.argv[1]))
right = timezone.now


def wrong() -> datetime:
    return right() + WRONG_BY


timezone.now = wrong
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
