"""What holds for the whole house: who loads what, how it is configured in the open, and how it is kept."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("labeling", "flywheel", "ml", "bench", "tests")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def python(source: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own, configured by these variables alone."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("LABELWHEEL_")}
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        env={**bare, "LABELWHEEL_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded_by(source: str, home: Path) -> set[str]:
    """The top-level modules that a program has loaded at its end."""
    done = python(f"{source}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})", home)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_web_process_loads_no_torch(tmp_path: Path) -> None:
    source = "from flywheel.config.wsgi import application\nfrom django.urls import get_resolver\n"
    loaded = loaded_by(f"{source}get_resolver().url_patterns", tmp_path)
    assert "django" in loaded
    assert not loaded & {"torch", "torchvision"}


def test_the_cpu_worker_and_the_clock_load_no_torch(tmp_path: Path) -> None:
    loaded = loaded_by(
        "from flywheel.config import celery_app\ncelery_app.loader.import_default_modules()", tmp_path
    )
    assert "kombu" in loaded
    assert "torch" not in loaded


def test_training_loads_no_django_no_broker_and_no_store(tmp_path: Path) -> None:
    loaded = loaded_by("import ml.train, ml.predict", tmp_path)
    assert "torch" in loaded
    assert not loaded & {"django", "rest_framework", "celery", "minio", "psycopg", "labeling", "flywheel"}


def test_consensus_and_formats_load_no_django(tmp_path: Path) -> None:
    loaded = loaded_by(
        "import labeling.consensus, labeling.formats, labeling.schema, labeling.geometry", tmp_path
    )
    assert not loaded & {"django", "rest_framework", "celery", "minio", "torch"}


def test_behind_https_the_deployment_check_has_no_security_finding(tmp_path: Path) -> None:
    checked = python(
        "import sys; sys.argv = ['manage.py', 'check', '--deploy', '--tag', 'security', '--fail-level', 'WARNING']\n"
        "import runpy; runpy.run_path('manage.py', run_name='__main__')",
        tmp_path,
        LABELWHEEL_HTTPS="1",
        LABELWHEEL_ALLOWED_HOSTS="labels.example.org",
    )
    assert checked.returncode == 0, checked.stderr


def test_the_secret_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    show = "from flywheel.config import settings; print(settings.SECRET_KEY)"
    first, second = python(show, tmp_path), python(show, tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert len(first.stdout.strip()) >= 50
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_in_debug_mode_by_default(tmp_path: Path) -> None:
    shown = python("from flywheel.config import settings; print(settings.DEBUG)", tmp_path)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize("word", ["utils", "util", "helpers", "helper", "common", "misc"])
def test_no_module_is_a_drawer_for_everything(word: str) -> None:
    assert [path for path in SOURCES if path.stem == word or path.parent.name == word] == []


def test_every_test_is_named_by_a_sentence() -> None:
    short = [
        f"{path.name}: {item.name}"
        for path in SOURCES
        if path.name.startswith("test_")
        for item in ast.walk(ast.parse(path.read_text()))
        if isinstance(item, ast.FunctionDef) and item.name.startswith("test_") and item.name.count("_") < 3
    ]
    assert short == []


def test_no_exception_is_swallowed_bare() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{item.lineno}"
        for path in SOURCES
        for item in ast.walk(ast.parse(path.read_text()))
        if isinstance(item, ast.ExceptHandler) and item.type is None
    ]
    assert bare == []


def test_the_ci_script_is_a_program_that_bash_can_read() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_make_knows_every_target_that_it_offers() -> None:
    text = (ROOT / "Makefile").read_text()
    offered = set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony is not None
    assert offered == set(phony.group(1).split())
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {line.split()[1] for line in shown.stdout.splitlines()} == offered
