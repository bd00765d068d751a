"""Move every requirement to its newest version: python -m tools.newest

rewrites the requirements*.txt, constraints.txt and the build backend's pin, and prints a table of
what moved. The workflow `newest` does so every month and then runs `make test`, so that a new
version that breaks the book is known before a reader meets it. To take the versions over, run it,
then `make test`, and commit.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.environment import ROOT, VENV
from tools.messages import Stop

FILES = ("requirements.txt", "requirements-dask.txt", "requirements-dev.txt")
LOCK = "constraints.txt"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)", re.M)
# What may not move freely, and why.
HELD = {
    "jupyter-book": "<2",  # the line that reads _config.yml and _toc.yml
}


def pins(text: str) -> dict[str, str]:
    """The exact pins of a requirements file; the first where a package has several."""
    found: dict[str, str] = {}
    for match in PIN.finditer(text):
        found.setdefault(match["name"].lower(), match["version"])
    return found


def relaxed(text: str) -> str:
    """A requirements file without its pins, but for what is held."""
    return PIN.sub(lambda match: match["name"] + HELD.get(match["name"].lower(), ""), text)


def pinned(text: str, versions: dict[str, str]) -> str:
    """A requirements file with these versions in place of its pins."""

    def newest(match: re.Match[str]) -> str:
        return f"{match['name']}=={versions.get(match['name'].lower(), match['version'])}"

    return PIN.sub(newest, text)


def table(before: dict[str, str], after: dict[str, str]) -> str:
    """What moved, as Markdown."""
    names = sorted(set(before) | set(after))
    moved = [name for name in names if before.get(name) != after.get(name)]
    rows = [f"| {name} | {before.get(name, '')} | {after.get(name, '')} |" for name in moved]
    return "\n".join(["| package | locked | newest |", "| --- | --- | --- |", *rows])


def resolve(root: Path) -> str:
    """What the requirements resolve to, for all platforms, as the text of a lock file."""
    uv = shutil.which("uv", path=str(VENV / "bin")) or shutil.which("uv")
    if uv is None:
        raise Stop("uv is missing: pip install uv, or make check, which installs it into .venv.")
    command = [uv, "pip", "compile", FILES[-1], "--universal", "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--quiet"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Stop(
            "The requirements do not fit together (see the lines above); no file was changed."
        )
    return done.stdout


def move(root: Path = ROOT) -> str:
    """Rewrite the files; return what moved. Where nothing resolves, they are as they were."""
    old = {name: (root / name).read_text("utf8") for name in (*FILES, LOCK, "pyproject.toml")}
    try:
        for name in FILES:
            (root / name).write_text(relaxed(old[name]))
        (root / LOCK).write_text("")
        new = resolve(root)
    except BaseException:
        for name, text in old.items():
            (root / name).write_text(text)
        raise
    versions = pins(new)
    for name in FILES:
        (root / name).write_text(pinned(old[name], versions))
    (root / LOCK).write_text(new)
    backend = f"setuptools=={versions.get('setuptools', pins(old[LOCK])['setuptools'])}"
    project = re.sub(r"setuptools==[\w.]+", backend, old["pyproject.toml"])
    (root / "pyproject.toml").write_text(project)
    return table(pins(old[LOCK]), versions)


def main() -> int:
    """Move them, and print what moved."""
    try:
        print(move())
    except Stop as stop:
        print(stop, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
