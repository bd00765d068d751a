"""A forked kernel is what a started one is, and it ends as one."""

from __future__ import annotations

import ast
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from extensions import forking
from extensions.kernels import kernel_env, new_client

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only"),
]

WHAT_IT_SEES = """\
import os, signal, sys
loaded = [name for name in sys.modules if name.startswith("rl_helpers")]
import torch, matplotlib
print(dict(
    folder=os.getcwd(), name=__name__, loaded=loaded, path=sys.path, backend=matplotlib.get_backend(),
    threads=torch.get_num_threads(), arguments=sys.argv[1:2], interactive=sys.flags.interactive,
    signals=[str(signal.getsignal(s)) for s in (signal.SIGCHLD, signal.SIGTERM)],
    env={k: v for k, v in os.environ.items() if k not in ("JPY_PARENT_PID", "PYTEST_CURRENT_TEST")},
    leads=os.getpgid(0) == os.getsid(0) == os.getpid(), child=os.waitstatus_to_exitcode(os.system("exit 3")),
))"""


@pytest.fixture(scope="module")
def forks() -> Iterator[dict[object, forking.Server]]:
    """Kernels are forked, from servers of these tests' own; return these."""
    factory, servers = KernelProvisionerFactory.instance(), dict[object, forking.Server]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "default_provisioner_name", "local-provisioner")
        patch.setattr(forking.ForkingProvisioner, "servers", servers)
        forking.fork_kernels()
        yield servers
    for server in servers.values():
        end(server)


def end(server: forking.Server) -> None:
    """End a server as the process that started it does."""
    server.socket.close()
    assert server.process.wait(10) == 0


def run(folder: Path, *cells: str, **env: str) -> list[str]:
    """Run cells in a kernel of its own, and return what each printed."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    new_client(notebook).execute(cwd=str(folder), env=kernel_env(folder) | env)
    return ["".join(out.get("text", "") for out in cell.outputs) for cell in notebook.cells]


def test_it_sees_what_a_started_one_sees(
    forks: dict[object, forking.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = "import os; print(os.getppid())"
    forked, above = run(tmp_path, WHAT_IT_SEES, parent, SAID="a word")
    (server,) = forks.values()
    assert int(above) == server.process.pid
    monkeypatch.setattr(
        KernelProvisionerFactory.instance(), "default_provisioner_name", "local-provisioner"
    )
    started, above = run(tmp_path, WHAT_IT_SEES, parent, SAID="a word")
    assert int(above) == os.getpid()
    one, two = ast.literal_eval(forked), ast.literal_eval(started)
    assert one == two
    assert one["folder"] == str(tmp_path)
    assert one["loaded"] == []
    assert one["env"]["SAID"] == "a word"


def test_each_loads_the_helpers_of_its_own_book(
    forks: dict[object, forking.Server], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "rl_helpers").mkdir(parents=True)
        (tmp_path / name / "rl_helpers" / "__init__.py").write_text(f"ANSWER = {name!r}\n")
        assert run(tmp_path / name, "import rl_helpers; print(rl_helpers.ANSWER)") == [f"{name}\n"]
    assert len(forks) == 1


def test_what_libraries_read_on_loading_has_a_server_of_its_own(
    forks: dict[object, forking.Server], tmp_path: Path
) -> None:
    ask = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    plain, other = run(tmp_path, ask), run(tmp_path, ask, ATEN_CPU_CAPABILITY="default")
    assert other == ["DEFAULT\n"] != plain
    _, second = forks
    end(forks.pop(second))


def test_it_ends_when_it_is_told_to_and_when_its_server_ends(
    forks: dict[object, forking.Server], tmp_path: Path
) -> None:
    (pid,) = map(int, run(tmp_path, "import os; print(os.getpid())"))
    (server,) = forks.values()
    assert not psutil.pid_exists(pid), "its client has shut it down"

    here = str(tmp_path)
    kernel = server.fork(["-f", str(tmp_path / "file.json")], here, dict(os.environ), 2)
    assert kernel.poll() is None
    kernel.kill()
    kernel.wait()
    assert kernel.poll() == 0
    kernel.kill()  # once more does no harm
    with pytest.raises(DeadKernelError):
        run(tmp_path, "import os; os._exit(1)")

    kernel = server.fork(["-f", str(tmp_path / "file.json")], here, dict(os.environ), 2)
    time.sleep(1)  # it watches its parent once it has begun
    end(server)
    psutil.Process(kernel.pid).wait(10)
    forks.clear()


def test_a_server_that_cannot_load_is_reported(
    forks: dict[object, forking.Server], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"kernels are forked from ended \(exit 1\)"):
        run(tmp_path, "1", MPLBACKEND="none such")
    (server,) = forks.values()
    forks.clear()
    assert server.process.returncode == 1


def test_elsewhere_kernels_start_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", "local-provisioner")
    monkeypatch.setattr(sys, "platform", "darwin")
    forking.fork_kernels()
    assert factory.default_provisioner_name == "local-provisioner"
