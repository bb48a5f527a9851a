"""Rows to and from the database with SQL written out, for the statements of every request: docs/adr/0012.

The names of tables and columns are the models'; values are always parameters.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models

Row = TypeVar("Row", bound=models.Model)


def columns(model: type[models.Model], table: str) -> str:
    """The model's columns as `read` wants them, of a table or its alias."""
    return ", ".join(f'{table}."{field.column}"' for field in model._meta.concrete_fields)


def read(model: type[Row], statement: str, values: Sequence[Any]) -> list[tuple[Row, tuple[Any, ...]]]:
    """Rows of a statement that selects `columns(model, …)` first; with each, what it selects behind these."""
    names, converters = _reading(model)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found = cursor.fetchall()
    rows = []
    for record in found:
        fields = list(record[: len(names)])
        for index, column, convert in converters:
            fields[index] = convert(fields[index], column, connection)
        rows.append((model.from_db(connection.alias, names, fields), record[len(names) :]))
    return rows


def lock(model: type[Row], pk: object) -> Row:
    """The row, locked until the transaction ends; others may refer to it meanwhile. Raises its `DoesNotExist`.

    On SQLite the transaction itself, which begins by writing, keeps everybody else out.
    """
    return _one(model, pk, " FOR NO KEY UPDATE" if connection.features.has_select_for_no_key_update else "")


def get(model: type[Row], pk: object) -> Row:
    """The row. Raises its `DoesNotExist`."""
    return _one(model, pk, "")


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


def _one(model: type[Row], pk: object, lock: str) -> Row:
    table = model._meta.db_table
    statement = f"SELECT {columns(model, table)} FROM {table} WHERE id = %s{lock}"  # noqa: S608
    for row, _ in read(model, statement, [pk]):
        return row
    return model._default_manager.none().get()  # raises the model's own `DoesNotExist`


@lru_cache
def _reading(model: type[models.Model]) -> tuple[list[str], list[tuple[int, Any, Any]]]:
    """The fields' names, and what makes Python values of the database's: (field number, column, function)."""
    fields = model._meta.concrete_fields
    converters = []
    for index, field in enumerate(fields):
        column = field.cached_col
        made = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
        converters += [(index, column, convert) for convert in made]
    return [field.attname for field in fields], converters


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
