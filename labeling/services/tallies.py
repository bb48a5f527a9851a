"""Counts that need no scan: triggers on the tasks keep them, whatever code changes a task."""

from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Count, Sum

from labeling.models import Project, Tally, Task

NAMES: Final = ("labeling_tally_insert", "labeling_tally_update", "labeling_tally_delete")
FEW: Final = 200
"""Rows that one project may have before `compact` sums them up."""

_CHANGED: Final = """
    OLD.project_id <> NEW.project_id OR OLD.state <> NEW.state OR OLD.is_gold <> NEW.is_gold
    OR OLD.answers <> NEW.answers
"""

# One writer at a time: the counter itself is changed. A counter that is gone, with its project, stays gone.
_SQLITE_ADD: Final = """
    INSERT INTO labeling_tally (project_id, state, is_gold, tasks, answers)
    SELECT NEW.project_id, NEW.state, NEW.is_gold, 0, 0 WHERE NOT EXISTS (
        SELECT 1 FROM labeling_tally
        WHERE project_id = NEW.project_id AND state = NEW.state AND is_gold = NEW.is_gold);
    UPDATE labeling_tally SET tasks = tasks + 1, answers = answers + NEW.answers
    WHERE project_id = NEW.project_id AND state = NEW.state AND is_gold = NEW.is_gold;
"""
_SQLITE_TAKE: Final = """
    UPDATE labeling_tally SET tasks = tasks - 1, answers = answers - OLD.answers
    WHERE project_id = OLD.project_id AND state = OLD.state AND is_gold = OLD.is_gold;
"""
_SQLITE: Final = (
    f"CREATE TRIGGER labeling_tally_insert AFTER INSERT ON labeling_task BEGIN {_SQLITE_ADD} END",
    f"""CREATE TRIGGER labeling_tally_update AFTER UPDATE OF project_id, state, is_gold, answers
        ON labeling_task WHEN {_CHANGED} BEGIN {_SQLITE_TAKE} {_SQLITE_ADD} END""",
    f"CREATE TRIGGER labeling_tally_delete AFTER DELETE ON labeling_task BEGIN {_SQLITE_TAKE} END",
)

# Many writers: each adds what it changed, nobody waits for another's row.
_POSTGRESQL: Final = (
    """
    CREATE OR REPLACE FUNCTION labeling_tally_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO labeling_tally (project_id, state, is_gold, tasks, answers)
        SELECT project_id, state, is_gold, count(*), sum(answers) FROM added GROUP BY 1, 2, 3;
        RETURN NULL;
    END $$;
    CREATE OR REPLACE FUNCTION labeling_tally_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO labeling_tally (project_id, state, is_gold, tasks, answers)
        SELECT project_id, state, is_gold, -count(*), -sum(answers) FROM gone GROUP BY 1, 2, 3;
        RETURN NULL;
    END $$;
    CREATE OR REPLACE FUNCTION labeling_tally_update() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (OLD.project_id, OLD.state, OLD.is_gold) = (NEW.project_id, NEW.state, NEW.is_gold) THEN
            INSERT INTO labeling_tally (project_id, state, is_gold, tasks, answers)
            VALUES (NEW.project_id, NEW.state, NEW.is_gold, 0, NEW.answers - OLD.answers);
        ELSE
            INSERT INTO labeling_tally (project_id, state, is_gold, tasks, answers)
            VALUES (OLD.project_id, OLD.state, OLD.is_gold, -1, -OLD.answers),
                   (NEW.project_id, NEW.state, NEW.is_gold, 1, NEW.answers);
        END IF;
        RETURN NULL;
    END $$;
    """,
    """CREATE TRIGGER labeling_tally_insert AFTER INSERT ON labeling_task
       REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION labeling_tally_insert()""",
    f"""CREATE TRIGGER labeling_tally_update AFTER UPDATE ON labeling_task
        FOR EACH ROW WHEN ({_CHANGED}) EXECUTE FUNCTION labeling_tally_update()""",
    """CREATE TRIGGER labeling_tally_delete AFTER DELETE ON labeling_task
       REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION labeling_tally_delete()""",
)


def install(**kwargs: Any) -> None:
    """Makes the triggers where they are missing, and counts anew then: after each `migrate`.

    Not in a migration: SQLite changes a table by making it again, and a trigger goes with the old one.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'labeling_task'::regclass")
        else:
            cursor.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'labeling_task'"
            )
        there = {row[0] for row in cursor.fetchall()}
        if there.issuperset(NAMES):
            return
        for name in NAMES:
            if name in there:
                cursor.execute(f"DROP TRIGGER {name}" + _on(connection.vendor))
        for statement in _POSTGRESQL if connection.vendor == "postgresql" else _SQLITE:
            cursor.execute(statement)
        recount()


@transaction.atomic
def recount() -> None:
    """Counts all tasks anew."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE labeling_task IN SHARE ROW EXCLUSIVE MODE")
    Tally.objects.all().delete()
    counted = Task.objects.order_by().values("project_id", "state", "is_gold")
    Tally.objects.bulk_create(
        Tally(
            project_id=row["project_id"],
            state=row["state"],
            is_gold=row["is_gold"],
            tasks=row["how_many"],
            answers=row["all_answers"],
        )
        for row in counted.annotate(how_many=Count("id"), all_answers=Sum("answers"))
    )


def compact() -> int:
    """Sums up the rows of projects that have many; of how many projects. On SQLite there are never many."""
    if connection.vendor != "postgresql":
        return 0
    Tally.objects.exclude(project_id__in=Project.objects.values("pk")).delete()
    many = (
        Tally.objects.order_by().values("project_id").annotate(rows=Count("id")).filter(rows__gt=FEW)
    ).values_list("project_id", flat=True)
    projects = list(many)
    with connection.cursor() as cursor:
        for project_id in projects:
            # One statement: nobody sees the rows gone and their sum not there yet.
            cursor.execute(
                """
                WITH gone AS (DELETE FROM labeling_tally WHERE project_id = %s
                              RETURNING project_id, state, is_gold, tasks, answers)
                INSERT INTO labeling_tally (project_id, state, is_gold, tasks, answers)
                SELECT project_id, state, is_gold, sum(tasks), sum(answers) FROM gone GROUP BY 1, 2, 3
                """,
                [project_id],
            )
    return len(projects)


def _on(vendor: str) -> str:
    return " ON labeling_task" if vendor == "postgresql" else ""
