"""A JSON object of any size, member by member, by the standard library's scanner: no more than one record in memory.

The object's lists are gone through element by element; whatever else it holds comes whole.
"""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from labeling.formats.base import Problem, UnreadableFileError

CHUNK_BYTES: Final = 1 << 18
MAX_VALUE_BYTES: Final = 64 * 2**20
"""The largest single record; a file may have any number of them."""

Member: TypeAlias = tuple[str, int | None, Any, str]
"""Name, index in the list, value and its text. A list is told first, with no index and an empty value."""

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_CUT_OFF: Final = 40
"""A token that is cut off at the end of what was read fails at most so many characters before that end."""

_NUMBER_CUT_OFF: Final = 3
"""A number may go on behind what was read as one: `1` of `1.5`, `1` of `1e+5`."""


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= 18 else float(digits)


_decoder = json.JSONDecoder(parse_int=_whole)


def decode(text: str) -> Any:
    """A record's value; integers beyond 18 digits become floats that no field accepts."""
    return _decoder.decode(text)


def members(path: Path) -> Iterator[Member]:
    """The members of the file's object. Raises `UnreadableFileError` with the line where the JSON breaks."""
    with path.open("rb") as file:
        yield from _Scanner(file, path.name).members()


class _Scanner:
    def __init__(self, file: Any, name: str) -> None:
        self.file = file
        self.name = name
        self.utf8 = getincrementaldecoder("utf-8-sig")()
        self.text = ""
        self.at = 0
        self.lines = 1
        """The line on which `text` begins."""
        self.bytes_read = 0
        self.ended = False

    def members(self) -> Iterator[Member]:
        if self._next() != "{":
            raise self._broken("must be an object with images, annotations and categories", line=False)
        self.at += 1
        if self._next() == "}":
            self.at += 1
        else:
            yield from self._all_members()
        if self._next():
            raise self._broken("is not JSON: Extra data")

    def _all_members(self) -> Iterator[Member]:
        while True:
            if self._next() != '"':
                raise self._broken("is not JSON: Expecting property name enclosed in double quotes")
            name, _ = self._value()
            if self._next() != ":":
                raise self._broken("is not JSON: Expecting ':' delimiter")
            self.at += 1
            if self._next() == "[":
                yield name, None, [], ""
                self.at += 1
                yield from self._elements(name)
            else:
                value, text = self._value()
                yield name, None, value, text
            if self._comma_or("}"):
                return

    def _elements(self, name: str) -> Iterator[Member]:
        if self._next() == "]":
            self.at += 1
            return
        index = 0
        while True:
            value, text = self._value()
            yield name, index, value, text
            index += 1
            if self._comma_or("]"):
                return

    def _comma_or(self, end: str) -> bool:
        following = self._next()
        if following not in (",", end):
            raise self._broken("is not JSON: Expecting ',' delimiter")
        self.at += 1
        return following == end

    def _next(self) -> str:
        """The next character that is no space, where it stands; nothing at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._read_more()

    def _value(self) -> tuple[Any, str]:
        self._next()
        while True:
            try:
                value, end = _decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut_off = error.pos >= len(self.text) - _CUT_OFF or error.msg.startswith(
                    "Unterminated string"
                )
                if self.ended or not cut_off:
                    self.at = error.pos
                    raise self._broken(f"is not JSON: {error.msg}") from None
            except RecursionError:
                raise self._broken("is nested too deeply", line=False) from None
            else:
                if end + _NUMBER_CUT_OFF <= len(self.text) or self.ended:
                    text = self.text[self.at : end]
                    self.at = end
                    return value, text
            if len(self.text) - self.at > MAX_VALUE_BYTES:
                raise self._broken(f"has a value of more than {MAX_VALUE_BYTES // 2**20} MiB")
            self._read_more()

    def _read_more(self) -> None:
        """At least doubles what is left, so that a long record is not scanned more than a few times."""
        left = len(self.text) - self.at
        data = self.file.read(max(CHUNK_BYTES, left))
        try:
            more = self.utf8.decode(data, final=not data)
        except UnicodeDecodeError as error:
            reason = f"is not UTF-8 text (byte {self.bytes_read + error.start})"
            raise UnreadableFileError(Problem(self.name, None, "", reason)) from None
        self.bytes_read += len(data)
        self.ended = not data
        self.lines += self.text.count("\n", 0, self.at)
        self.text = self.text[self.at :] + more
        self.at = 0

    def _broken(self, reason: str, *, line: bool = True) -> UnreadableFileError:
        number = self.lines + self.text.count("\n", 0, self.at) if line else None
        return UnreadableFileError(Problem(self.name, number, "", reason))
