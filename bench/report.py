"""What every benchmark's result says beside its figures: which code, on which machine."""

import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]


def about(*, quick: bool) -> dict[str, Any]:
    """`commit` (None outside a checkout), `machine` and `quick`."""
    return {"commit": _commit(), "machine": machine(), "quick": quick}


def machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def packages() -> int:
    """How many packages are installed in this environment."""
    return len({item.name.lower() for item in distributions()})


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
