"""JSON read piece by piece says what the whole document says, wherever the pieces end."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeling.formats import UnreadableFileError, json_stream

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
documents = st.dictionaries(st.text(max_size=6), values, max_size=4)


def together(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, index, value, text in json_stream.members(path):
        if index is None:
            found[name] = value
        else:
            assert index == len(found[name])
            assert json_stream.decode(text) == value
            found[name].append(value)
    return found


@settings(max_examples=150, deadline=None)
@given(documents, st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_the_members_are_those_of_the_document(
    document: dict[str, Any], chunk: int, indent: int | None, escaped: bool
) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK_BYTES", chunk)
        path = Path(name) / "x.json"
        text = json.dumps(document, indent=indent, ensure_ascii=escaped)
        path.write_bytes(text.encode("utf-8", "surrogatepass" if escaped else "strict"))

        assert together(path) == document


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": [1,\n 2,\n x]}', 3),
        ('{"a": [{"b": 1}\n{"b": 2}]}', 2),
        ('{"a": 1', 1),
        ('{"a": "never ends', 1),
        ('{"a": 1}\n{}', 2),
        ('{"a"\n: tru}', 2),
        ("{\n\n1: 2}", 3),
    ],
)
def test_broken_json_is_told_with_its_line(
    text: str, line: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", chunk)
    path = tmp_path / "x.json"
    path.write_text(text)

    with pytest.raises(UnreadableFileError, match="is not JSON") as refused:
        together(path)

    assert refused.value.problem.line == line


def test_a_record_beyond_all_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_VALUE_BYTES", 1_000)
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 100)
    (tmp_path / "x.json").write_text(json.dumps({"a": [["x" * 20] * 100] * 50, "b": "y" * 5_000}))

    with pytest.raises(UnreadableFileError, match="more than 0 MiB"):
        together(tmp_path / "x.json")
