"""The package imports nothing of ours, and the distribution of its name on PyPI stays away."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import kernels

HERE = Path(kernels.__file__).parent
OURS = {"inference", "marketplace", "billing", "tests"}


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, at its head or inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_kernels_import_nothing_else_of_this_repository():
    files = list(HERE.rglob("*.py"))
    assert len(files) > 10
    assert {str(p): imported(p) & OURS for p in files if imported(p) & OURS} == {}


def test_only_the_adapters_of_the_engine_import_kernels():
    engine = HERE.parent / "inference" / "engine"
    users = {
        str(path.relative_to(engine))
        for path in engine.parent.rglob("*.py")
        if "kernels" in imported(path)
    }
    assert users == {
        "lora/fused.py",
        "optimise/fused_kernels.py",
        "optimise/sparse_attention.py",
    }


def test_the_distribution_of_that_name_on_pypi_is_not_installed():
    # `kernels` on PyPI is another project; its package would be imported in the place of ours.
    names = {str(d.metadata["Name"]).lower() for d in importlib.metadata.distributions()}
    assert "torch" in names
    assert "kernels" not in names
    assert HERE.parent.joinpath("pyproject.toml").is_file()


def test_the_engine_starts_without_triton():
    code = "import sys, inference.engine.optimise; print(*{'triton', 'kernels'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
