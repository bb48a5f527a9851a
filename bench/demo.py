"""`python -m bench.demo`: the wheel turns a few times, with simulated annotators at the HTTP API.

A project is made, three annotators of different skill label it round by round, their answers are settled
and compared with the truth that they do not have, models are trained and promoted, and what their
suggestions save is measured. See bench/README.md for how the seconds come about.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bench import material as materials
from bench import report
from bench.annotator import AVERAGE, CAREFUL, HIGH, LOW, NOMINAL, SLOPPY, Answer, Picture, SimulatedAnnotator
from bench.client import Client, Json, Refusal
from bench.material import Material, NothingToLabel
from bench.quality import classes_without_boxes, compare
from bench.service import Account, Service, ServiceFailed
from labeling import schema as label_schema
from labeling.geometry import MatchCounts
from labeling.shapes import Shape, parse_list
from ml import synthetic

OWNER: Final = "demo"
SKILLS: Final = {"careful": CAREFUL, "average": AVERAGE, "sloppy": SLOPPY}
COSTS: Final = {"low": LOW, "nominal": NOMINAL, "high": HIGH}
AHEAD: Final = 3
TIER: Final = "2048"
LABELLED: Final = (16, 48, 128)
DRAWN_LABELLED: Final = (16, 40, 80)
QUICK_LABELLED: Final = (12, 32)
DRAWN_PICTURES: Final = 220
QUICK_DRAWN_PICTURES: Final = 90
DRAWN_SEED: Final = 7
DRAWN_TRAINING: Final[dict[str, Any]] = {"side": 256}
"""The drawn pictures have 320 × 240 pixels and their smallest objects about 15."""
LEAST_TOLD: Final = 0.005
POLL_S: Final = 0.5
TELL_EVERY_S: Final = 10.0
STALLED_AFTER_S: Final = 600.0


class DemoFailed(Exception):
    """A step did not come out; the message says what happened."""


@dataclass
class RoundResult:
    """One round's figures; `f1` is each annotator's, `seconds` and `by_hand` are means per answer."""

    number: int
    labelled: int
    consensus_f1: float
    f1: Mapping[str, float]
    model: Mapping[str, Any]
    decision: str
    reason: str
    accepted_share: float | None
    seconds: Mapping[str, float]
    by_hand: Mapping[str, float]
    training_s: float

    @property
    def annotator_f1(self) -> float:
        return sum(self.f1.values()) / len(self.f1)

    @property
    def saved(self) -> float:
        """The share of the seconds that drawing everything by hand would have taken."""
        return 1 - self.seconds["nominal"] / self.by_hand["nominal"]

    def dump(self) -> dict[str, Any]:
        return {
            "labelled": self.labelled,
            "consensus_f1": self.consensus_f1,
            "annotator_f1": self.annotator_f1,
            "ap50": self.model["ap50"],
            "accepted_share": self.accepted_share,
            "seconds_per_picture": self.seconds["nominal"],
            "annotators": dict(self.f1),
            "ap": self.model["ap"],
            "pck": self.model["pck"],
            "decision": self.decision,
            "seconds": dict(self.seconds),
            "seconds_by_hand": dict(self.by_hand),
            "saved": self.saved,
            "training_s": self.training_s,
        }


@dataclass
class Done:
    """An answer that was submitted, and the one the same person would have drawn without suggestions."""

    task_id: int
    name: str
    answer: Answer
    by_hand: Answer


@dataclass
class Demo:
    """A project in a running service, with its people at the API."""

    service: Service
    material: Material
    owner: Client
    annotators: Mapping[str, tuple[Client, SimulatedAnnotator]]
    project_id: int
    training: Mapping[str, Any]
    began: float
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        pictures = (*self.material.pool, *self.material.gold)
        self.truth = {item.name: item.labels.shapes for item in pictures}
        self.by_joints = classes_without_boxes(list(self.truth.values()))

    def say(self, line: str) -> None:
        say(line, since=self.began)

    def upload(self) -> None:
        self.say(f"uploading {self.material.told}")
        for files in materials.batches(self.material.pool):
            self._refuse_problems(self.owner.upload(self.project_id, files, labels_as="ignore"))
        gold = 0
        for files in materials.batches_with_labels(self.material):
            imported = self.owner.upload(self.project_id, files, labels_as="gold")
            self._refuse_problems(imported)
            gold += imported["gold"]
        if not gold:
            raise DemoFailed("No picture became gold, so no model could be measured.")

    def turn(self, *, number: int, labelled: int, new: int, new_next: int) -> RoundResult:
        """One round: label `new` pictures more, which makes `labelled`, then train, measure, predict, select."""
        self.owner.change_project(
            self.project_id,
            round_settings={"automatic": False, "target_new_labels": new_next, "training": self.training},
        )
        model = self.owner.project(self.project_id)["suggestions_from"]
        how = f"with suggestions of {model}" if model else "by hand"
        self.say(f"round {number}: {len(self.annotators)} annotators label {new} pictures {how}")
        answers = self.label(new)
        started = time.monotonic()
        turn = self.follow(self.owner.start_round(self.project_id))
        training_s = time.monotonic() - started
        self.say(f"round {number}: {turn['decision']}. {turn['reason']}")
        champion = next((m for m in self.owner.models(self.project_id) if m["status"] == "champion"), None)
        if champion is None:
            raise DemoFailed(f"No model is good enough to make suggestions: {turn['reason']}")
        consensus_f1, f1 = self.compare(answers)
        everything = [done for person in answers.values() for done in person]
        return RoundResult(
            number=number,
            labelled=labelled,
            consensus_f1=consensus_f1,
            f1=f1,
            model=champion["metrics"],
            decision=turn["decision"],
            reason=turn["reason"],
            accepted_share=turn["metrics"]["collection"]["accepted_share"],
            seconds={
                name: _mean([done.answer.seconds(cost) for done in everything])
                for name, cost in COSTS.items()
            },
            by_hand={
                name: _mean([done.by_hand.seconds(cost) for done in everything])
                for name, cost in COSTS.items()
            },
            training_s=training_s,
        )

    def label(self, count: int) -> dict[str, list[Done]]:
        """Every annotator answers the next `count` pictures of the queue, all at once, each in a thread."""
        before = self.owner.project(self.project_id)["progress"]["settled"]
        with ThreadPoolExecutor(len(self.annotators)) as threads:
            futures: dict[str, Future[list[Done]]] = {
                name: threads.submit(self._work, client, person, count)
                for name, (client, person) in self.annotators.items()
            }
            try:
                wait(futures.values(), return_when=FIRST_EXCEPTION)
            finally:
                if not all(future.done() and not future.exception() for future in futures.values()):
                    self.stopping.set()
        answers = {name: future.result() for name, future in futures.items()}
        settled = self.owner.project(self.project_id)["progress"]["settled"] - before
        if settled != count:
            raise DemoFailed(f"{count} pictures were answered by everyone, but {settled} were settled.")
        return answers

    def _work(self, client: Client, person: SimulatedAnnotator, count: int) -> list[Done]:
        done: list[Done] = []
        while len(done) < count and not self.stopping.is_set():
            got = client.next_tasks(self.project_id, min(AHEAD, count - len(done)))
            if not got["leases"]:
                raise DemoFailed(f"{person.name} got nothing to label: {got['empty']['message']}")
            for leased in got["leases"]:
                done.append(self._answer(client, person, leased, got["schema_version"]))
        return done

    def _answer(self, client: Client, person: SimulatedAnnotator, leased: Json, schema_version: int) -> Done:
        task_id, name = leased["task"]["id"], leased["task"]["name"]
        client.picture(task_id, TIER)
        image = leased["image"]
        picture = Picture(name, image["width"], image["height"], self.truth[name])
        answer = person.answer(picture, parse_list(leased["suggestions"]))
        client.submit(leased, answer.shapes, schema_version=schema_version, seconds=answer.seconds())
        return Done(task_id, name, answer, person.by_hand(picture))

    def follow(self, turn: Json) -> Json:
        """Waits until the round is done, telling how it goes. Raises `DemoFailed`, `ServiceFailed`."""
        number, status, message = turn["number"], "", ""
        moved_at = told_at = time.monotonic()
        while turn["status"] not in ("done", "failed", "cancelled"):
            time.sleep(POLL_S)
            self.service.check()
            turn = self.owner.round(self.project_id, number)
            now, before = time.monotonic(), (status, message)
            status, message = turn["status"], (turn["job"] or {}).get("message", "")
            if (status, message) != before:
                moved_at = now
                if status != "done" and (status != before[0] or now - told_at > TELL_EVERY_S):
                    self.say(f"round {number}: {status}{f' ({message})' if message else ''}")
                    told_at = now
            if now - moved_at > STALLED_AFTER_S:
                raise DemoFailed(f"Nothing has moved for {STALLED_AFTER_S / 60:g} minutes while {status}.")
        if turn["status"] != "done":
            raise DemoFailed(f"Round {number} {turn['status']}: {turn['reason']}")
        return turn

    def compare(self, answers: Mapping[str, Sequence[Done]]) -> tuple[float, dict[str, float]]:
        """F1 of the consensus and of each annotator against the truth, over the round's pictures."""
        consensus = MatchCounts()
        people = {name: MatchCounts() for name in answers}
        for task_id, name in {(done.task_id, done.name) for person in answers.values() for done in person}:
            task = self.owner.task(task_id)
            consensus += self._against_truth(task["consensus"]["shapes"], name)
            for annotation in task["annotations"]:
                people[annotation["author"]] += self._against_truth(annotation["shapes"], name)
        return consensus.f1, {name: counts.f1 for name, counts in people.items()}

    def _against_truth(self, raw: list[Json], name: str) -> MatchCounts:
        shapes: Sequence[Shape] = parse_list(raw)
        return compare(shapes, self.truth[name], self.by_joints)

    def _refuse_problems(self, imported: Json) -> None:
        if imported["problems"]:
            first = imported["problems"][0]
            raise DemoFailed(f"{first['file']} {first['field']}: {first['reason']}")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    began = time.monotonic()
    try:
        with (
            _terminable(),
            tempfile.TemporaryDirectory(prefix="labelwheel-demo-") as scratch,
            ExitStack() as stack,
        ):
            _run(options, Path(scratch), began, stack)
    except (DemoFailed, ServiceFailed, NothingToLabel, Refusal) as error:
        print(f"The demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace, scratch: Path, began: float, stack: ExitStack) -> None:
    rounds: list[int] = options.rounds
    training: dict[str, Any] = {}
    if options.data is None:
        count = QUICK_DRAWN_PICTURES if options.quick else DRAWN_PICTURES
        say(f"drawing {count} pictures of balls, crates, tents and jointed figures", since=began)
        synthetic.draw(scratch, count=count, seed=DRAWN_SEED)
        training = dict(DRAWN_TRAINING)
    if options.symmetry:
        training["symmetry"] = options.symmetry
    material = materials.read(options.data or scratch, labelled=rounds[-1])
    rounds = sorted({min(wanted, len(material.pool)) for wanted in rounds})
    say("starting the service: database, web, workers", since=began)
    service = stack.enter_context(
        Service(
            home=options.home,
            port=options.port,
            serving=options.serve,
            say=lambda line: say(line, since=began),
        )
    )
    owner, *annotators = service.add_accounts([OWNER, *SKILLS])
    demo = _set_up(service, material, owner, annotators, training, options, began, stack)
    demo.upload()
    results: list[RoundResult] = []
    sizes = [0, *rounds]
    for number, labelled in enumerate(rounds, start=1):
        new = labelled - sizes[number - 1]
        following = rounds[number] - labelled if number < len(rounds) else new
        results.append(demo.turn(number=number, labelled=labelled, new=new, new_next=following))
    demo.owner.change_project(demo.project_id, round_settings={"training": training})
    minutes = (time.monotonic() - began) / 60
    print(table(results, minutes), flush=True)
    if options.serve:
        print(
            f"\nLabelwheel is at {service.address} — user {owner.username}, password {owner.password}; "
            "Ctrl+C stops it",
            flush=True,
        )
    if options.json:
        print(json.dumps(dump(results, minutes, quick=options.quick)), flush=True)
    if options.serve:
        with suppress(KeyboardInterrupt):
            service.wait()
            service.check()


def _set_up(
    service: Service,
    material: Material,
    owner: Account,
    people: Sequence[Account],
    training: Mapping[str, Any],
    options: argparse.Namespace,
    began: float,
    stack: ExitStack,
) -> Demo:
    client = stack.enter_context(Client(service.address, owner.token))
    project = client.create_project(
        name=_free_name(client, "Demo" if options.data is None else f"Demo: {options.data.resolve().name}"),
        schema=label_schema.dump(material.schema),
        answers_per_task=len(people),
        gold_share=0.0,  # each of the new pictures is compared with its truth; gold in between would only take time
        guide="Simulated annotators labelled the first pictures. Go on where they stopped.",
        round_settings={"automatic": False},
    )
    for account in people:
        client.add_member(project["id"], account.username, "annotator")
    annotators = {
        account.username: (
            stack.enter_context(Client(service.address, account.token)),
            SimulatedAnnotator(account.username, SKILLS[account.username], material.schema),
        )
        for account in people
    }
    say(f"project “{project['name']}” with annotators {', '.join(annotators)}", since=began)
    return Demo(service, material, client, annotators, project["id"], training, began)


def table(results: Sequence[RoundResult], minutes: float) -> str:
    """The rounds as text, and what they show in a sentence each."""
    has_joints = any(result.model["pck"] is not None for result in results)
    heads = ["round", "labelled", "consensus F1", "annotators F1", "AP50 on gold"]
    heads += ["PCK on gold"] if has_joints else []
    heads += ["accepted", "s a picture", "by hand", "saved"]
    rows = [heads]
    for result in results:
        accepted = "–" if result.accepted_share is None else f"{result.accepted_share:.0%}"
        row = [str(result.number), str(result.labelled), f"{result.consensus_f1:.3f}"]
        row += [f"{result.annotator_f1:.3f}", f"{result.model['ap50']:.3f}"]
        row += [f"{result.model['pck']:.3f}"] if has_joints else []
        row += [accepted, f"{result.seconds['nominal']:.1f}", f"{result.by_hand['nominal']:.1f}"]
        row += [f"{result.saved:.0%}" if result.accepted_share is not None else "–"]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    last = results[-1]
    told = [f"{name} {f1:.3f}" for name, f1 in last.f1.items()]
    notes = [f"Consensus {last.consensus_f1:.3f} against {', '.join(told)} in the last round."]
    if len(results) > 1:
        second = results[1]
        saved = [1 - second.seconds[cost] / second.by_hand[cost] for cost in COSTS]
        effect = "shortened" if second.saved > 0 else "lengthened"
        if abs(second.saved) < LEAST_TOLD:
            effect = "hardly changed"
        notes.append(
            f"Suggestions {effect} round 2: {second.seconds['nominal']:.1f} s instead of "
            f"{second.by_hand['nominal']:.1f} s a picture, {second.saved:.0%} saved "
            f"(with low, nominal and high costs {', '.join(f'{share:.0%}' for share in saved)})."
        )
    notes.append(f"Seconds are those of simulated annotators. The demo took {minutes:.1f} minutes.")
    return "\n".join(["", *lines, "", *notes])


def dump(results: Sequence[RoundResult], minutes: float, *, quick: bool) -> dict[str, Any]:
    return {
        "minutes": round(minutes, 2),
        "packages": report.packages(),
        "rounds": [result.dump() for result in results],
        **report.about(quick=quick),
    }


def say(line: str, *, since: float) -> None:
    seconds = int(time.monotonic() - since)
    print(f"[{seconds // 60}:{seconds % 60:02}] {line}", file=sys.stderr, flush=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes a polite kill end the demo as Ctrl+C does, so that the service ends with it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_name(client: Client, wanted: str) -> str:
    taken = {project["name"] for project in client.projects()}
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted} {number}", number + 1
    return name


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of pictures and labels instead of drawn ones")
    parser.add_argument("--rounds", type=_sizes, help="pictures labelled after each round, like 16,48,128")
    parser.add_argument("--symmetry", choices=["upright", "any"], help="any: pictures without an upright")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--serve", action="store_true", help="leave the service running at the end")
    parser.add_argument("--json", action="store_true", help="print the figures as a last line of JSON")
    parser.add_argument("--port", type=int, default=8000, help="the first port to try (%(default)s)")
    home = Path(os.environ.get("LABELWHEEL_HOME", report.ROOT / "var"))
    parser.add_argument("--home", type=Path, default=home, help="the service's data directory (%(default)s)")
    options = parser.parse_args(arguments)
    options.home = options.home.resolve()
    if options.rounds is None:
        usual = DRAWN_LABELLED if options.data is None else LABELLED
        options.rounds = list(QUICK_LABELLED if options.quick else usual)
    return options


def _sizes(text: str) -> list[int]:
    sizes = [int(part) for part in text.split(",")]
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise argparse.ArgumentTypeError("must be rising numbers like 16,48,128")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
