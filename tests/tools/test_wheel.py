"""The wheel of the helpers, installed apart, holds every module."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.environment import ROOT

pytestmark = pytest.mark.site  # it takes as long as a small section

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "rl_helpers").rglob("*.py"))
]


def test_every_module_of_the_wheel_can_be_imported(tmp_path: Path) -> None:
    source, wheels, apart = tmp_path / "source", tmp_path / "wheels", tmp_path / "apart"
    source.mkdir()
    shutil.copytree(
        ROOT / "rl_helpers", source / "rl_helpers", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # The build backend is the locked one, which is installed: nothing is downloaded.
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, "--wheel-dir", str(wheels), str(source)], check=True)
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(apart)
    program = (
        f"import importlib, pathlib, rl_helpers\n"
        f"assert pathlib.Path(rl_helpers.__file__).is_relative_to({str(apart)!r})\n"
        f"for name in {MODULES!r}: importlib.import_module(name)"
    )
    env = {**os.environ, "PYTHONPATH": str(apart)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
