"""`python -m bench.training`: prints one JSON object; progress goes to standard error. See bench/README.md."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.training import accuracy, audit, gate, hard, throughput, trust
from bench.training.sets import SETS, NoSuchSet

PARTS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "accuracy": accuracy.run,
    "gate": gate.run,
    "audit": audit.run,
    "trust": trust.run,
    "throughput": throughput.run,
    "hard": hard.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less training, one seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--only", choices=sorted(PARTS), action="append", help="this part; may be given again"
    )
    parser.add_argument("--sets", type=Path, default=Path(SETS), help="the folder of the real sets")
    parser.add_argument(
        "--work", type=Path, help="where snapshots and models go; what is there already is used"
    )
    parser.add_argument(
        "--add", type=Path, action="append", default=[], help="takes over a former run's parts"
    )
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {**report.about(quick=options.quick), "seeds": options.seeds}
    for path in options.add:
        former = json.loads(path.read_text().splitlines()[-1])
        figures |= {name: value for name, value in former.items() if name not in figures}
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for name in options.only or PARTS:
            try:
                figures |= PARTS[name](
                    quick=options.quick, sets=options.sets, work=work / name, seeds=options.seeds
                )
            except NoSuchSet as error:
                print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
