"""JupyterLab with the book's settings: a double click on a section opens it as a notebook."""

import os
import secrets
from typing import NoReturn

from tools.environment import ROOT, VENV, python, run, variables, write_settings
from tools.messages import check_port, read_port


def command(port: int, token: str) -> list[str]:
    """How JupyterLab is started."""
    line = [
        str(VENV / "bin" / "jupyter"),
        "lab",
        f"--ServerApp.root_dir={ROOT}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        "--ServerApp.log_level=WARN",
        "--LabApp.default_url=/lab/tree/chapters",
    ]
    if os.geteuid() == 0:
        line.append("--allow-root")
    if not os.environ.get("DISPLAY") and os.uname().sysname == "Linux":
        line.append("--no-browser")
    return line


def main() -> NoReturn:
    """Make lab, once the environment is there."""
    port = read_port(os.environ.get("PORT") or "8888", "lab")
    check_port(port, "lab")
    write_settings(VENV)
    run([python(), "-m", "tools.labels"], "Reading the sections")
    # The token keeps other users of this machine out; the printed address has it already.
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(8)
    address = f"http://localhost:{port}/lab/tree/chapters?token={token}"
    print(f"Open {address}\nCtrl-C, twice, ends it.", flush=True)
    env = variables()
    env.pop("BOOK_STATIC", None)  # sliders are live here
    line = command(port, token)
    os.chdir(ROOT)
    os.execve(line[0], line, env)
