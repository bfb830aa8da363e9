"""What may import what, and how large the parts may grow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("app", "models", "training")
INFERENCE_LIBRARIES = {"tensorflow", "openvino", "keras"}
SEARCH_LIBRARIES = {"faiss"}
HTTP_LIBRARIES = {"fastapi", "starlette", "uvicorn", "python_multipart"}


def _sources(*parts: str) -> list[Path]:
    return sorted(path for part in parts for path in (ROOT / part).rglob("*.py"))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in _sources(*PARTS)}


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, as a full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def _tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("app", {"training"}),
        ("training", {"app"} | HTTP_LIBRARIES),
        ("models", {"app", "training"} | INFERENCE_LIBRARIES | HTTP_LIBRARIES),
        ("app/api", INFERENCE_LIBRARIES | SEARCH_LIBRARIES),
        ("app/inference", HTTP_LIBRARIES | {"httpx"}),
    ],
)
def test_part_does_not_import(part: str, forbidden: set[str]) -> None:
    assert {str(path): _tops(path) & forbidden for path in _sources(part) if _tops(path) & forbidden} == {}


def test_service_does_without_what_is_for_offline_jobs() -> None:
    users = {module: set(_imports(path)) for module, path in MODULES.items() if not module.startswith("app.batch")}
    found = {
        module: {name for name in names if f"{name}.".startswith(("app.batch.", "ray.", "pyarrow."))}
        for module, names in users.items()
    }
    assert {module: names for module, names in found.items() if names} == {}


def test_models_needs_little() -> None:
    allowed = sys.stdlib_module_names | {"models", "pydantic", "PIL", "numpy"}
    needed = {path.name: _tops(path) - allowed for path in _sources("models")}
    # Only where models lie in object storage or have indexes, and imported only then
    optional = {"storage.py": {"fsspec"}, "nearest.py": {"faiss"}}
    assert {name: found for name, found in needed.items() if found} == optional
    script = "import sys, models.storage, models.nearest; sys.exit('fsspec' in sys.modules or 'faiss' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_only_the_engines_import_their_libraries() -> None:
    users = {_module(path): _tops(path) & INFERENCE_LIBRARIES for path in _sources("app")}
    assert {module: found for module, found in users.items() if found} == {
        "app.inference.engines.openvino": {"openvino"},
        "app.inference.engines.tensorflow": {"tensorflow"},
    }


def test_no_import_cycles() -> None:
    graph = {module: {name for name in _imports(path) if name in MODULES} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_importing_the_service_loads_no_inference_library_and_starts_no_thread() -> None:
    code = "import sys, threading, app.main, app.__main__; print(sorted(sys.modules), threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded, threads = done.stdout.rsplit(maxsplit=1)
    assert "'fastapi'" in loaded
    assert [name for name in INFERENCE_LIBRARIES | SEARCH_LIBRARIES if f"'{name}'" in loaded] == []
    assert threads == "1"


@pytest.mark.parametrize(("part", "limit"), [("models", 1700), ("app", 9100), ("training", 7200)])
def test_part_can_be_read_in_an_afternoon(part: str, limit: int) -> None:
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in _sources(part))
    assert 0 < lines < limit


def test_top_level_is_as_given() -> None:
    made_by_tools = {"build", "data", "runs", "__pycache__", "demitasse.egg-info"}
    visible = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - made_by_tools
    given = {
        "app",
        "models",
        "training",
        "tests",
        "docker-compose.yml",
        "Dockerfile.gpu",
        "pyproject.toml",
        "README.md",
    }
    added = {"Makefile", "LICENSE", "NOTICE", "constraints.txt", "benchmarks", "deploy"}
    assert given <= visible <= given | added
