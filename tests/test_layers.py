"""The order of the layers: a module imports only from its own layer or from one above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
LAYERS = [
    {"errors", "records", "files", "machine", "faults", "shipped_toml"},
    {"catalogue"},
    {"data"},
    {"models"},
    {"inference"},
    {"retrieval"},
    {"evaluation"},
    {"mining"},
    {"training"},
    {"serving"},
    {"cli", "quickstart", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
NEVER_IMPORTS_TORCH = ("catalogue", "data")
HEAVY = ("torch", "transformers", "sentence_transformers")


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too, but not for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            if node.module == "m3e":
                yield from (f"m3e.{alias.name}" for alias in node.names)


def layer_of(module: str) -> int | None:
    parts = module.split(".")
    return LEVEL.get(parts[1]) if parts[0] == "m3e" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_upwards_only(path: Path) -> None:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    if parts[0] == "uniem" or parts in (("m3e", "__init__"), ("m3e", "assets", "__init__")):
        return
    assert parts[1] in LEVEL, f"{parts[1]} belongs to no layer"
    own = LEVEL[parts[1]]
    for module in imports(path):
        level = layer_of(module)
        assert level is None or level <= own, f"{path} imports {module}, a layer below its own"
        if parts[1] in NEVER_IMPORTS_TORCH:
            assert module.split(".")[0] not in HEAVY, f"{path} imports {module}"


def test_no_layer_imports_the_shim() -> None:
    for path in modules():
        if "uniem" not in path.parts:
            assert not any(module.split(".")[0] == "uniem" for module in imports(path))


@pytest.mark.parametrize(
    "module", ["m3e", "m3e.cli", "m3e.data.reading", "m3e.retrieval", "m3e.evaluation", "m3e.mining", "m3e.training"]
)
def test_importing_is_cheap(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'mteb', 'daft') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
