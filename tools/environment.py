"""The environment in .venv and node_modules: made once, remade when what it is made of changes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.messages import FULL, Stop, explain
from tools.process import stream

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
RECORD = VENV / "installed.json"
GIGABYTE = 10**9
NEEDED = 3 * GIGABYTE
NEEDED_WITH_CUDA = 12 * GIGABYTE

# JupyterLab's settings of this environment only: a double click on a section opens a notebook, and
# only the reader saves it, since saving lays out the source anew.
LAB_SETTINGS = {
    "@jupyterlab/docmanager-extension:plugin": {
        "autosave": False,
        "defaultViewers": {"markdown": "Jupytext Notebook", "myst": "Jupytext Notebook"},
    },
    "@jupyterlab/notebook-extension:tracker": {"autoStartDefaultKernel": True},
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
}
# Kernels warn at each start that they talk to their own machine without encryption.
KERNEL_SETTINGS = {"IPKernelApp": {"log_level": "ERROR"}}


def python() -> str:
    """The environment's interpreter."""
    return str(VENV / "bin" / "python")


def variables(**more: str) -> dict[str, str]:
    """The environment variables of every command that runs inside the environment."""
    env = dict(os.environ)
    env.pop("PYTHONHOME", None)
    env["VIRTUAL_ENV"] = str(VENV)
    env["PATH"] = os.pathsep.join([str(VENV / "bin"), env.get("PATH", os.defpath)])
    # By default glibc returns each freed tensor of half a megabyte to the system and asks for it
    # again: 10–45 % of a training step.
    env.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
    env.setdefault("MALLOC_TRIM_THRESHOLD_", str(128 * 2**20))
    return env | more


def run(command: list[str], what: str) -> None:
    """Run a command in the environment; raise Stop with an explanation if it fails."""
    status, errors = stream(command, ROOT, variables())
    if status:
        reason = explain(errors) or f"See the lines above (exit status {status})."
        raise Stop(f"{what} failed. {reason}")


def fingerprint(files: list[str], root: Path = ROOT) -> str:
    """A hash of what an installation depends on. Of pyproject.toml only what pip reads counts."""
    digest = hashlib.sha256()
    for name in files:
        path = root / name
        content = path.read_bytes() if path.exists() else b""
        if name == "pyproject.toml" and content:
            table = tomllib.loads(content.decode())
            parts = [table.get("build-system"), table.get("project")]
            parts.append(table.get("tool", {}).get("setuptools"))
            content = json.dumps(parts, sort_keys=True).encode()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def read_record() -> dict[str, str]:
    """What the last complete installation was made of; empty if there is none."""
    try:
        record = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def check_space(path: Path, needed: int) -> None:
    """Raise Stop when the disk cannot hold the installation."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise Stop(
            f"Only {free / GIGABYTE:.1f} GB are free on the disk of {path}, "
            f"and the environment needs about {needed / GIGABYTE:.0f} GB. "
            "Make room and repeat the command."
        )


def usable(record: dict[str, str]) -> bool:
    """Whether .venv still works: its Python runs and the folder has not been moved."""
    if record.get("root", str(ROOT)) != str(ROOT) or not Path(python()).exists():
        return False
    test = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python(), "-c", test], capture_output=True).returncode == 0


def install(kind: str) -> None:
    """Make .venv, or bring it up to date, in one pip resolve."""
    record = read_record()
    has_torch = any(VENV.glob("lib/python*/site-packages/torch"))
    index = os.environ.get("TORCH_INDEX", "").strip()
    check_space(ROOT, GIGABYTE // 2 if has_torch else NEEDED)
    if not usable(record):
        if VENV.is_symlink():  # clearing it would clear another folder
            raise Stop(".venv is a link to an environment of another folder. Remove the link.")
        print(f"Making .venv with Python {sys.version.split()[0]}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
        )
        if done.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            output = done.stdout + done.stderr
            raise Stop(f"Making .venv failed. {explain(output) or output.strip()}")
        has_torch = False
    if sys.platform == "linux" and not index and not has_torch:
        print(
            "Note: on Linux the usual torch wheel brings several GB of CUDA libraries; "
            "make book TORCH_INDEX=… avoids them (see README.md).",
            flush=True,
        )
        if shutil.disk_usage(ROOT).free < NEEDED_WITH_CUDA:
            print("      This disk may not have room for them.", flush=True)
    RECORD.unlink(missing_ok=True)  # an interrupted installation must not look complete
    requirements = "requirements-dev.txt" if kind == "dev" else "requirements.txt"
    # What is never imported need not be compiled: that would take half of the time.
    command = [python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    command += ["-r", requirements, "-e", "."]
    if index:
        command += ["--extra-index-url", index]
    print(f"Installing {requirements}", flush=True)
    run(command, "Installing the Python packages")


def install_node() -> None:
    """Fetch the npm packages of the site and of its tests with the npm that came from PyPI."""
    command = [str(VENV / "bin" / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    print("Installing package-lock.json", flush=True)
    run(command, "Installing the npm packages")


def install_peers() -> Path:
    """Install what `make bench` measures the book against, apart from .venv; return the folder."""
    folder, requirements = ROOT / "_build" / "peers", "benchmarks/requirements.txt"
    stamp, wanted = folder / "installed", fingerprint([requirements, "constraints.txt"])
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        command = [python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
        run([*command, "--target", str(folder), "-r", requirements], "Installing the peers")
        stamp.write_text(wanted)
    return folder


def extension_folder(prefix: Path) -> Path:
    """Where the book's extension of JupyterLab is in an environment."""
    return prefix / "share" / "jupyter" / "labextensions" / "rl-book"


def write_settings(prefix: Path) -> None:
    """Give one environment's Jupyter the book's settings and its extension of JupyterLab.

    The user's own settings stay as they are.
    """
    ours, theirs = ROOT / "tools" / "labextension", extension_folder(prefix)
    (theirs / "static").mkdir(parents=True, exist_ok=True)
    shutil.copy(ours / "package.json", theirs)
    shutil.copy(ours / "sections.js", theirs / "static")
    for name, settings in (
        ("share/jupyter/lab/settings/overrides.json", LAB_SETTINGS),
        ("etc/ipython/ipython_kernel_config.json", KERNEL_SETTINGS),
    ):
        target = prefix / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(settings, indent=2) + "\n")


def ensure(kind: str) -> None:
    """Make sure that everything for "book" or "dev" is installed; quick when it is."""
    common = ["requirements.txt", "requirements-dask.txt", "constraints.txt", "pyproject.toml"]
    wanted = {
        "root": str(ROOT),
        "book": fingerprint(common),
        "dev": fingerprint(["requirements-dev.txt", *common]),
        "node": fingerprint(["package.json", "package-lock.json"]),
    }
    record = read_record()
    try:
        if record.get(kind) != wanted[kind] or not usable(record):
            install(kind)
            write_settings(VENV)
            record = {key: wanted[key] for key in ("root", "book", kind)}
            RECORD.write_text(json.dumps(record, indent=2) + "\n")
        has_node = (ROOT / "node_modules").is_dir()
        if (ROOT / "package-lock.json").exists() and not (
            has_node and record.get("node") == wanted["node"]
        ):
            install_node()
            record["node"] = wanted["node"]
            RECORD.write_text(json.dumps(record, indent=2) + "\n")
    except OSError as error:
        if error.errno == 28:
            raise Stop(FULL) from None
        raise
