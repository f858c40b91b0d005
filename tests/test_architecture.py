"""The arrows of the design: imle knows nothing of glann, start-up imports nothing heavy, the wheel is the tree."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", sorted((ROOT / "imle").rglob("*.py")), ids=lambda p: p.name)
def test_imle_imports_nothing_of_glann_and_click_only_in_its_command(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert "glann" not in roots
    assert "click" not in roots or path.name in ("cli.py", "__main__.py")


@pytest.mark.parametrize("module", ["glann.cli", "imle.cli", "glann", "imle"])
def test_start_up_imports_nothing_heavy(module):
    heavy = "torch", "faiss", "lpips", "numpy", "pydantic", "matplotlib", "rich"
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_the_tree_and_nothing_else(tmp_path):
    # Built from a copy: setuptools leaves a build folder, and picks up what an earlier build left there.
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    wanted = [n for n in tracked if n.split("/")[0] in ("imle", "glann", "pipelines") or "/" not in n]
    if not any(wanted):
        pytest.skip("not a git checkout")
    for name in filter(None, wanted):
        target = tmp_path / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "tree", check=True, capture_output=True)
    (wheel,) = (tmp_path / "tree").glob("*.whl")
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    expected = {n for n in wanted if n.split("/")[0] in ("imle", "glann") and "/" in n}
    expected |= {f"glann/{n}" for n in wanted if n.startswith("pipelines/")}
    assert inside == expected


def test_version_is_written_once():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
