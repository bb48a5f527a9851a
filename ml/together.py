"""Several processes train one model, on as many GPUs or on cores: started by torchrun, followed through files.

They share every batch, so the same configuration gives about the same model as one process does: the loss of each
share is normalised by itself, as where short memory splits a batch into pieces, and the running means of batch
normalisation are those of the first process's share. Another number of processes gives other weights to the bit.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ml.checkpoint import write_json
from ml.train import Cancelled, Diverged, Fitted, Progress, TrainConfig, TrainingError, TrainingRefused, fit
from ml.training.errors import StoppedElsewhere
from ml.training.team import Team

POLL_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 60.0
"""From when the processes were asked to stop until they are killed."""
REQUEST, STOP, ENDED = "request.json", "stop", "ended-{}.json"
KINDS: Final[dict[str, type[TrainingError]]] = {
    item.__name__: item for item in (TrainingRefused, Diverged, Cancelled)
}


def fit_together(
    snapshot: Path,
    out: Path,
    *,
    processes: int,
    config: TrainConfig,
    warm_start: Path | None = None,
    cache: Path | None = None,
    code_version: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """`ml.train.fit` in this many processes; killed and called again, it goes on from the last checkpoint.

    Raises what `fit` raises, and `TrainingError` if a process died. What `on_progress` raises ends them all.
    """
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / STOP, *(out / ENDED.format(rank) for rank in range(processes))):
        path.unlink(missing_ok=True)
    paths = {"warm_start": warm_start, "cache": cache}
    write_json(
        out / REQUEST,
        {
            "snapshot": str(snapshot.resolve()),
            "config": asdict(config),
            "code_version": code_version,
            **{name: None if path is None else str(path.resolve()) for name, path in paths.items()},
        },
    )
    began = time.monotonic()
    with _started(out, processes) as process:
        told, asked_at = 0, None
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            for point in _new_points(out, told):
                told = point.pop("step")
                rate = point.pop("lr")
                seconds = time.monotonic() - began
                on_progress(Progress(told, config.steps, point["loss"], rate, seconds, point))
            if asked_at is None and should_stop():
                (out / STOP).touch()
                asked_at = time.monotonic()
            if asked_at is not None and time.monotonic() - asked_at > PATIENCE_SECONDS:
                break
    endings = [_read(out / ENDED.format(rank)) for rank in range(processes)]
    for ending in endings:
        if ending.get("kind") in KINDS:
            raise KINDS[ending["kind"]](ending["told"])
    if process.returncode != 0 or not all(ending.get("kind") == "" for ending in endings):
        raise TrainingError(
            f"One of the {processes} processes that train together died. Start the training again: it goes on from "
            "its last checkpoint."
        )
    return fit_finished(out)


def fit_finished(out: Path) -> Fitted:
    """The model that lies there."""
    card = _read(out / "card.json")
    return Fitted(out, str(card["weights_sha256"]), card)


@contextmanager
def _started(out: Path, processes: int) -> Iterator["subprocess.Popen[bytes]"]:
    """All processes as one group, none of which is left afterwards."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    process = subprocess.Popen([*command, "-m", "ml.together", str(out.resolve())], start_new_session=True)  # noqa: S603  (our own interpreter and module)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun ends those that it started
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _new_points(out: Path, after: int) -> list[dict[str, Any]]:
    path = out / "curve.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    points = [json.loads(line) for line in lines if line.endswith("\n")]
    return [point for point in points if point["step"] > after]


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def main(arguments: Sequence[str]) -> int:
    """One of the processes."""
    (out,) = map(Path, arguments)
    team = Team.join()
    request = json.loads((out / REQUEST).read_text())
    settings = request["config"] | {"scale": tuple(request["config"]["scale"])}
    ending = {"kind": "", "told": ""}
    try:
        fit(
            Path(request["snapshot"]),
            out,
            config=TrainConfig(**settings),
            warm_start=None if request["warm_start"] is None else Path(request["warm_start"]),
            cache=None if request["cache"] is None else Path(request["cache"]),
            code_version=request["code_version"],
            team=team,
            should_stop=(out / STOP).exists,
        )
    except StoppedElsewhere:
        ending["kind"] = "StoppedElsewhere"
    except TrainingError as error:
        ending = {"kind": type(error).__name__, "told": str(error)}
    write_json(out / ENDED.format(team.rank), ending)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
