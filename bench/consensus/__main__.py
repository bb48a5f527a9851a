"""`python -m bench.consensus`: prints one JSON object; progress goes to standard error. See bench/README.md."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.consensus import labels, poses, rankings, real, simulated, speed
from labeling.consensus import DEFAULT_METHOD

PARTS: Final = ("crowds", "real", "keypoints", "tags", "rankings", "speed")
SEEDS: Final = (11, 12, 13)
"""Seeds below 10 are for choosing hyper-parameters; what is reported is drawn by others."""
CROWD: Final = report.ROOT.parent / "shared" / "data" / "crowd_pedestrians" / "crowd.json"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.consensus", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pictures, seeds and splits")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the simulated crowds")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    parser.add_argument(
        "--crowd", type=Path, help=f"the real crowd's file (by default {CROWD.name}, where it is)"
    )
    parser.add_argument(
        "--add", type=Path, action="append", default=[], help="takes over a former run's parts"
    )
    options = parser.parse_args(arguments)
    seeds = tuple(options.seeds or (SEEDS[:1] if options.quick else SEEDS))
    figures: dict[str, Any] = {
        **report.about(quick=options.quick),
        "method": DEFAULT_METHOD,
        "seeds": list(seeds),
    }
    for path in options.add:
        former = json.loads(path.read_text().splitlines()[-1])
        figures |= {name: value for name, value in former.items() if name not in figures}
    for part in options.only or PARTS:
        start = time.monotonic()
        found = _run(part, quick=options.quick, seeds=seeds, crowd=options.crowd)
        if found is not None:
            figures |= found
            _say(f"{part}: {time.monotonic() - start:.0f} s")
    print(json.dumps(figures))
    return 0


def _run(part: str, *, quick: bool, seeds: Sequence[int], crowd: Path | None) -> dict[str, Any] | None:
    if part == "crowds":
        return {"crowds": simulated.run(quick=quick, seeds=seeds, say=_say)}
    if part == "real":
        path = crowd or CROWD
        if not path.is_file():
            _say(f"the real crowd is left out: there is no {path.name} (--crowd FILE)")
            return None
        return {"real": real.run(path, half=crowd is None, quick=quick, say=_say)}
    if part == "keypoints":
        return {"keypoints": poses.run(quick=quick, seeds=seeds, say=_say)}
    if part == "tags":
        return {"tags": labels.run(quick=quick, seeds=seeds, say=_say)}
    if part == "rankings":
        return {"rankings": rankings.run(quick=quick, seeds=seeds, say=_say)}
    found = speed.run(quick=quick, say=_say)
    return {name: found[name] for name in ("images_per_s", "seconds_1000x3", "online_ms")} | {"speed": found}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
