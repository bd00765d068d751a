"""Kernels in a quarter of the time: forked from a process that has loaded what sections load.

An interpreter with torch, SciPy and Matplotlib takes three seconds to start, and every section wants
its own, in the build and again in its test. `fork_kernels` has the kernels of this process forked
instead, on Linux; elsewhere they start as ever. A forked kernel sees what a started one sees: its
folder, its variables, its path, the helpers of its own book, which are never loaded beforehand.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, cast

import psutil
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from tools.environment import ROOT

LOADED = (
    "torch",
    "scipy.integrate",
    "scipy.optimize",
    "scipy.sparse.csgraph",
    "scipy.sparse.linalg",
    "scipy.stats",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "gymnasium.vector",
    "joblib",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "ipywidgets",
    "jaxtyping",
    "pygments.formatters",
    "pygments.lexers",
    "tqdm.auto",
)
# Variables that libraries read once, when they are loaded: a server for each set of their values.
READ_ON_LOADING = (
    "ATEN_", "GLIBC_", "MALLOC_", "MKL_", "MPL", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHON"
)  # fmt: skip
BACKEND = "module://matplotlib_inline.backend_inline"  # what kernels set for Matplotlib
MOST_BYTES = 2**20  # of a request: its variables


class Forked:
    """A forked kernel, with what Jupyter asks of a process that it has started."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid, self.process = pid, psutil.Process(pid)

    def poll(self) -> int | None:
        """Return None while it runs."""
        return None if self.process.is_running() else 0

    def wait(self) -> int:
        """Wait for its end."""
        self.process.wait()
        return 0

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that kernels are forked from. It ends with this one."""

    def __init__(self, env: dict[str, str]) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES)
        command = [sys.executable, "-m", "extensions.forking", str(theirs.fileno())]
        self.process = subprocess.Popen(
            command, cwd="/", env=env | {"PYTHONPATH": str(ROOT)}, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self.lock = threading.Lock()

    def fork(self, arguments: list[str], cwd: str, env: dict[str, str], stderr: int) -> Forked:
        """Fork a kernel that is given these arguments, and return it."""
        request = json.dumps([arguments, cwd, env]).encode()
        try:
            with self.lock:
                socket.send_fds(self.socket, [request], [1, stderr])
                return Forked(int(self.socket.recv(100)))
        except (ConnectionError, ValueError):  # it is gone, and has said nothing
            status = self.process.wait()
            raise RuntimeError(
                f"the process that kernels are forked from ended (exit {status})"
            ) from None


class ForkingProvisioner(LocalProvisioner):
    """Provides the kernels of this Python by forking them, and all others as ever."""

    servers: ClassVar[dict[tuple[tuple[str, str], ...], Server]] = {}
    starting: ClassVar[threading.Lock] = threading.Lock()

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork a kernel, and return how to reach it."""
        if cmd[:3] != [sys.executable, "-m", "ipykernel_launcher"]:
            return await super().launch_kernel(cmd, **kwargs)
        env, cwd = dict(kwargs["env"]), kwargs.get("cwd") or os.getcwd()
        read = {name for name in env if name.startswith(READ_ON_LOADING)} - {"PYTHONPATH"}
        key = tuple((name, env[name]) for name in sorted(read))
        with self.starting:
            if key not in self.servers:
                self.servers[key] = Server(env)
        stderr = kwargs["stderr"].fileno() if kwargs.get("stderr") else 2
        kernel = self.servers[key].fork(cmd[3:], str(cwd), env, stderr)
        self.process = cast(subprocess.Popen[bytes], kernel)
        self.pid = self.pgid = kernel.pid  # it leads a group of its own
        return self.connection_info


def fork_kernels() -> None:
    """Have this process fork its kernels from now on, where that is safe."""
    if sys.platform != "linux":  # macOS: its frameworks do not survive it; Windows: no fork
        return
    factory, name = KernelProvisionerFactory.instance(), "forking"
    point = EntryPoint(name, f"{__name__}:ForkingProvisioner", factory.GROUP_NAME)
    factory.provisioners[name] = point
    factory.default_provisioner_name = name


# ---- In the server ------------------------------------------------------------------------------


def serve(channel: socket.socket) -> None:
    """Load what sections load, then fork a kernel for each request, until there are no more."""
    os.environ.setdefault("MPLBACKEND", BACKEND)
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # kernels end when this process has ended
    for module in LOADED:
        importlib.import_module(module)
    gc.freeze()  # what is loaded stays: no kernel need look through it for what can go
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no kernel that ended is left as a zombie
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption ends the build, and it this
    while True:
        request, streams, *_ = socket.recv_fds(channel, MOST_BYTES, 2)
        if not request:
            return
        if pid := os.fork():
            for stream in streams:
                os.close(stream)
            channel.send(str(pid).encode())
            continue
        channel.close()
        arguments, cwd, env = json.loads(request)
        become_kernel(arguments, cwd, env, streams)
        return


def become_kernel(arguments: list[str], cwd: str, env: dict[str, str], streams: list[int]) -> None:
    """Be the kernel that was asked for, to its end."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, stream in enumerate([nothing, *streams]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    # In place of the folder that the server was started in, and of the one with this module.
    sys.path[:2] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["ipykernel_launcher", *arguments]
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance(arguments)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
