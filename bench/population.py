"""`python -m bench.population`: fills the database of LABELWHEEL_HOME with people and tasks for the queue's benchmark.

Written straight into the tables: a million pictures would take hours to draw and upload. What is measured
afterwards goes through the service's door. The last line of standard output is JSON: project ids, tokens.
"""

import argparse
import json
import os
import random
from typing import Any, Final

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flywheel.config.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402  (after django.setup)
from django.db import connection, models, transaction  # noqa: E402

from labeling import consensus, schema  # noqa: E402
from labeling.models import Consensus, ConsensusFit, Image, Project, Role, Task  # noqa: E402
from labeling.services import accounts, projects, tallies  # noqa: E402
from labeling.shapes import parse_list  # noqa: E402

SCHEMA: Final = {
    "classes": [{"id": number, "name": f"class {number}", "kind": "box"} for number in range(1, 6)]
}
WIDTH, HEIGHT = 1280, 960


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--settled", type=int, default=0, help="tasks of a second project, settled")
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--answers", type=int, default=1)
    options = parser.parse_args()
    people = [_person(f"person{number}") for number in range(options.people)]
    tokens = [accounts.make_token(user=person, name="bench")[1] for person in people]
    open_project = _project("queue", people, answers_per_task=options.answers)
    _refit(open_project)
    first_image = _add_images(options.tasks + options.settled)
    _add_tasks(open_project, first_image, options.tasks, slots=options.answers)
    settled = _project("settled", people, answers_per_task=1)
    _add_tasks(settled, first_image + options.tasks, options.settled, slots=0)
    if options.settled:
        _settle(settled, options.boxes)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    tallies.compact()
    print(json.dumps({"project": open_project.pk, "settled": settled.pk, "tokens": tokens}))


def _person(name: str) -> User:
    return User.objects.create(username=name, password="!")  # enters with a token alone


def _project(name: str, people: list[User], **options: Any) -> Project:
    project = projects.create(name=name, schema=schema.parse(SCHEMA), owner=people[0], **options)
    for person in people[1:]:
        projects.set_member(project=project, username=person.username, role=Role.ANNOTATOR, actor=people[0])
    return project


def _numbers(count: int) -> str:
    if connection.vendor == "postgresql":
        return f"SELECT generate_series(1, {count}) AS n"
    return (
        f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c"
    )


def _hex(value: str) -> str:
    return (
        f"lpad(to_hex({value}), 64, '0')"
        if connection.vendor == "postgresql"
        else f"printf('%064x', {value})"
    )


def _copy(template: models.Model, numbers: str, changes: dict[str, str]) -> None:
    """Rows like this one, one for each number `n`, with other values (SQL) in some columns."""
    table = template._meta.db_table
    columns = [
        field.column for field in template._meta.concrete_fields if field.column != "id" or "id" in changes
    ]
    values = [changes.get(column, f'template."{column}"') for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {table} ({names}) SELECT {", ".join(values)}
                FROM ({numbers}) AS numbers CROSS JOIN {table} AS template WHERE template.id = {template.pk}"""
        )


@transaction.atomic
def _add_images(count: int) -> int:
    """Rows of pictures whose bytes are nowhere; the id of the first."""
    sizes = {"width": WIDTH, "height": HEIGHT, "raw_width": WIDTH, "raw_height": HEIGHT}
    template = Image.objects.create(sha256="f" * 64, format="JPEG", size_bytes=90_000, **sizes)
    _copy(template, _numbers(count), {"id": f"{template.pk} + n", "sha256": _hex("n")})
    _set_sequence("labeling_image")
    return template.pk + 1


@transaction.atomic
def _add_tasks(project: Project, first_image: int, count: int, *, slots: int) -> None:
    if not count:
        return
    image = Image.objects.get(sha256="f" * 64)
    template = Task.objects.create(project=project, image=image, name="template", slots=slots)
    # A tenth was chosen by selection, the rest comes by age, as in a project where the wheel turns.
    changes = {
        "image_id": f"{first_image} - 1 + n",
        "name": "'picture ' || n",
        "priority": "CASE WHEN n % 10 = 0 THEN 0.5 + (n % 1000) / 2000.0 ELSE 0.0 END",
        "reason": "CASE WHEN n % 10 = 0 THEN 'uncertain' ELSE 'age' END",
    }
    _copy(template, _numbers(count), changes)
    template.delete()


def _set_sequence(table: str) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")


@transaction.atomic
def _settle(project: Project, boxes: int) -> None:
    """Each task of the project gets an answer's consensus with this many boxes, of a hundred kinds."""
    version = projects.current_schema(project)
    dice = random.Random(7)
    kinds = [[_box(dice, number) for number in range(boxes)] for _ in range(100)]
    first = Task.objects.filter(project=project).earliest("id")
    for number, shapes in enumerate(kinds):
        template = Consensus.objects.create(
            task=first,
            revision=2,
            method="skill_weighted",
            schema_version=version,
            shapes=shapes,
            answers=1,
            digest="",
        )
        tasks = f"SELECT id AS n FROM labeling_task WHERE project_id = {project.pk} AND id % 100 = {number}"
        _copy(template, tasks, {"task_id": "n", "revision": "1"})
        template.delete()
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE labeling_task SET state = 'settled', answers = 1, settled_at = created_at, consensus_id =
               (SELECT id FROM labeling_consensus c WHERE c.task_id = labeling_task.id) WHERE project_id = %s""",
            [project.pk],
        )


def _refit(project: Project) -> None:
    """What a project knows of its annotators after its first round: parameters learnt from three people's answers."""
    dice = random.Random(11)
    answers = []
    for image in range(50):
        truth = [_box(dice, number) for number in range(10)]
        for person in range(3):
            drawn = [item | {"xyxy": [side + dice.gauss(0, 2) for side in item["xyxy"]]} for item in truth]
            kept = [item | {"score": None} for item in drawn if dice.random() > 0.1]
            answers.append(consensus.Answer(str(image), str(person), parse_list(kept)))
    parameters = consensus.METHODS[project.consensus_method].fit(answers).parameters
    fit = ConsensusFit.objects.create(
        project=project, number=1, method=project.consensus_method, parameters=parameters, digest="0" * 64
    )
    Project.objects.filter(pk=project.pk).update(consensus_fit=fit)


def _box(dice: random.Random, number: int) -> dict[str, Any]:
    x, y = dice.uniform(0, WIDTH - 200), dice.uniform(0, HEIGHT - 200)
    xyxy = [round(value, 2) for value in (x, y, x + dice.uniform(10, 200), y + dice.uniform(10, 200))]
    return {
        "id": f"{number:08x}-0000-4000-8000-{dice.getrandbits(48):012x}",
        "kind": "box",
        "class_id": number % 5 + 1,
        "xyxy": xyxy,
        "provenance": "consensus",
        "score": round(dice.uniform(0.5, 1), 6),
    }


if __name__ == "__main__":
    main()
