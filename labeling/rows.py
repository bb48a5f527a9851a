"""Rows to and from the database with SQL written out, for the statements of every request: docs/adr/0012.

The names of tables and columns are the models'; values are always parameters.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


def lock(model: type[Row], pk: object) -> Row:
    """The row, locked until the transaction ends; others may refer to it meanwhile. Raises its `DoesNotExist`.

    On SQLite the transaction itself, which begins by writing, keeps everybody else out.
    """
    lock = " FOR NO KEY UPDATE" if connection.features.has_select_for_no_key_update else ""
    return _one(model, f"SELECT * FROM {model._meta.db_table} WHERE id = %s{lock}", pk)  # noqa: S608


def get(model: type[Row], pk: object) -> Row:
    """The row. Raises its `DoesNotExist`."""
    return _one(model, f"SELECT * FROM {model._meta.db_table} WHERE id = %s", pk)  # noqa: S608


def insert(row: models.Model) -> None:
    """Stores a new row, with its values as they are; gives it its id where the database makes that."""
    statement, columns, makes_id = _insertion(type(row))
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in columns]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        if makes_id:
            (row.pk,) = cursor.fetchone()
    row._state.adding = False
    row._state.db = connection.alias


def update(row: models.Model, names: Sequence[str]) -> None:
    """Writes these fields of a row that is there."""
    fields = [_fields(type(row))[name] for name in names]
    settings = ", ".join(f'"{field.column}" = %s' for field in fields)
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        statement = f"UPDATE {row._meta.db_table} SET {settings} WHERE id = %s"  # noqa: S608
        cursor.execute(statement, [*values, row.pk])


def _one(model: type[Row], statement: str, pk: object) -> Row:
    for row in model._default_manager.raw(statement, [pk]):
        return row
    return model._default_manager.none().get()  # raises the model's own `DoesNotExist`


@lru_cache
def _fields(model: type[models.Model]) -> dict[str, Any]:
    return {field.name: field for field in model._meta.concrete_fields}


@lru_cache
def _insertion(model: type[models.Model]) -> tuple[str, list[Any], bool]:
    makes_id = isinstance(model._meta.pk, models.AutoField)
    columns = [field for field in model._meta.concrete_fields if not (makes_id and field.primary_key)]
    names = ", ".join(f'"{field.column}"' for field in columns)
    places = ", ".join(["%s"] * len(columns))
    returning = " RETURNING id" if makes_id else ""
    statement = f"INSERT INTO {model._meta.db_table} ({names}) VALUES ({places}){returning}"  # noqa: S608
    return statement, columns, makes_id
