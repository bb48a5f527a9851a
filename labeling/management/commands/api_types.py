"""Writes the browser's types of the HTTP API, from the OpenAPI schema that the server itself serves."""

import re
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from drf_spectacular.generators import SchemaGenerator

TARGET: Final[Path] = settings.BASE_DIR / "frontend" / "src" / "api" / "schema.ts"
FROM_CORE: Final = ("LabelClass", "Shape")
"""The engine has stricter types of its own for these: which fields a shape has depends on its kind."""
HEAD: Final = """// Written by `manage.py api_types` from the OpenAPI schema; `make check` fails when it is out of date.

import type { LabelClass, Shape } from "../core/shapes";
"""


class Command(BaseCommand):
    help = "Write frontend/src/api/schema.ts, or only check that it is as it should be."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail if it is out of date")

    def handle(self, *args: Any, **options: Any) -> None:
        document = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
        text = typescript(document["components"]["schemas"])
        if options["check"]:
            if not TARGET.is_file() or TARGET.read_text() != text:
                raise CommandError(f"{TARGET.name} is out of date: run `manage.py api_types`")
        else:
            TARGET.write_text(text)


def typescript(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """A TypeScript declaration for each component schema, in the order of their names."""
    declarations = [_declare(name, schemas[name]) for name in sorted(schemas) if name not in FROM_CORE]
    return HEAD + "".join(f"\n{declaration}\n" for declaration in declarations)


def _declare(name: str, schema: Mapping[str, Any]) -> str:
    if schema.get("type") != "object" or "properties" not in schema:
        return f"export type {name} = {_type(schema)};"
    required = set(schema.get("required", ()))
    fields = [
        f"  readonly {_key(field)}{'' if field in required else '?'}: {_type(of)};"
        for field, of in schema["properties"].items()
    ]
    return "\n".join([f"export interface {name} {{", *fields, "}"])


def _key(field: str) -> str:
    """
    >>> _key("width"), _key("512")
    ('width', '"512"')
    """
    return field if re.fullmatch(r"[A-Za-z_]\w*", field) else f'"{field}"'


def _type(schema: Mapping[str, Any]) -> str:
    """
    >>> _type({"type": "array", "items": {"type": "string", "nullable": True}})
    'readonly (string | null)[]'
    """
    plain = _plain_type(schema)
    return f"{plain} | null" if schema.get("nullable") else plain


def _plain_type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "oneOf" in schema:
        return " | ".join(_type(item) for item in schema["oneOf"])
    if "enum" in schema:
        return " | ".join("null" if value is None else f'"{value}"' for value in schema["enum"])
    match schema.get("type"):
        case "integer" | "number":
            return "number"
        case "boolean":
            return "boolean"
        case "string":
            return "string"
        case "array":
            item = _type(schema["items"])
            return f"readonly ({item})[]" if " " in item else f"readonly {item}[]"
        case _:
            return "Readonly<Record<string, unknown>>"
