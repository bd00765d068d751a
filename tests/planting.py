"""Mistakes planted in the running helpers, to see that a test notices them."""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import pytest

from tools.environment import ROOT


def plant(patch: pytest.MonkeyPatch, file: str, right: str, wrong: str) -> None:
    """Give every helper that uses a file of `rl_helpers` what the file defines with one change.

    Args:
        patch: takes the mistake out again.
        file: path inside `rl_helpers`.
        right: what it says, once.
        wrong: what it is made to say.
    """
    source = (ROOT / "rl_helpers" / file).read_text("utf8")
    assert source.count(right) == 1, f"{file} says something else now; plant the mistake anew"
    name = "rl_helpers." + file.removesuffix(".py").replace("/", ".")
    spoiled = ModuleType(name)
    code = compile(source.replace(right, wrong), file, "exec")
    exec(code, spoiled.__dict__)
    original = sys.modules[name]
    changed = {
        id(thing): getattr(spoiled, key)
        for key, thing in vars(original).items()
        if getattr(thing, "__module__", None) == name and hasattr(spoiled, key)
    }
    for module in [m for key, m in sys.modules.items() if key.startswith("rl_helpers")]:
        for key, thing in list(vars(module).items()):
            if id(thing) in changed:
                patch.setattr(module, key, changed[id(thing)])


def run_section(folder: Path, channel: Connection) -> None:
    """Run `section.py` of a folder, in a process of its own, with the helpers that lie beside it.

    Args:
        folder: has the script, and `rl_helpers`.
        channel: gets the exception that ended the script, its class and what it says; else "".
    """
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            runpy.run_path("section.py", run_name="__main__")
        except Exception as error:
            channel.send(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
        else:
            channel.send("")
