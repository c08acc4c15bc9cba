"""Processes of Python that find the libraries loaded: a server has imported them, and forks for each command.

To import torch, timm and scikit-learn takes most of what a short command takes. What is run is a process of its own all
the same, with its folder, environment, files and exit status, and it imports Histill's own code from where it stands.
The client (python_client.py), as `bin/python`, is started in Python's place and takes Python's words. It ends as its
process ends, its process ends with it, and signals are passed on. What the server cannot run as Python would, Python
itself runs. A process that ends leaves what was loaded as it is, and does not take it down.

    python python_server.py LISTENER    serves a socket until its standard input is closed; imports at the first command
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import itertools
import marshal
import multiprocessing
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

LIBRARIES = (
    "accelerate", "cv2", "dask.distributed", "dulwich.porcelain", "dvc.cli", "dvc.commands.experiments.run",
    "dvc.commands.repro", "dvc.compare", "dvc.repo", "dvc.repo.experiments.queue.tempdir", "dvc.repo.plots",
    "dvc.stage.run", "h5py", "hydra.compose", "hydra.utils", "hypothesis", "jinja2", "networkx", "onnx",
    "openslide", "PIL.Image", "pydantic.dataclasses", "pydantic.type_adapter", "pydicom", "pygit2", "pytest",
    "rich.progress", "ruamel.yaml", "safetensors.torch", "scipy.ndimage", "scipy.stats", "scmrepo.git",
    "simplejpeg", "sklearn.linear_model", "sklearn.metrics", "sklearn.neighbors", "tifffile", "timm", "timm.optim",
    "timm.scheduler", "torch", "torch.distributed.run", "torch.utils.data", "torch.utils.flop_counter",
    "torchvision", "typer", "yaml", "zarr",
)  # fmt: skip
"""Not pyarrow: it starts a thread, of which a process that is forked has nothing."""
FIXED = ("PYTHON", "HF_", "TORCH_", "TORCHDYNAMO_", "OMP_", "DASK_", "ATEN_")
"""What is taken from the environment as libraries load: a command that has it otherwise is Python's own to run."""
NOT_FIXED = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONHASHSEED", "PYTHON_EXEC", "TORCH_NCCL_ASYNC_ERROR_HANDLING")
"""What is looked at here, or changes nothing. Dask's cluster leaves a hash seed in the environment of its process."""
INTERPRETED = {} if Path("/proc/driver/nvidia").exists() else {"TRITON_INTERPRET": "1"}
"""As Triton is loaded: without a GPU it is only ever its interpreter that runs a kernel.

What sets the same itself finds it so; what compiles kernels for a GPU that is not here is Python's own to run.
"""
FLAGS = ("-u", "-B")
"""With which a command may begin; of no bytecode, multiprocessing tells its processes by the latter."""
SOCKET = "LOADED_PYTHON_SOCKET"
CLIENT = Path(__file__).with_name("python_client.py")


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A server for this process and those that it starts, and the command `folder`/bin/python; ends with this one."""
    program = folder / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -IS\n{CLIENT.read_text()}")
    program.chmod(0o755)
    os.environ[SOCKET] = str(folder / "socket")
    multiprocessing.set_executable(str(program))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[SOCKET])
        listener.listen(64)
        words, given = [sys.executable, __file__, str(listener.fileno())], [listener.fileno()]
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, cwd="/", env=environment, pass_fds=given, start_new_session=True
        )


def loaded_python() -> str:
    """The command that is started as Python is, by multiprocessing too (Dask's workers, the benchmark's engines)."""
    return str(Path(os.environ[SOCKET]).with_name("bin") / "python")


@dataclass(frozen=True)
class Command:
    """What a client asks for: Python's words, and the files that it has open, here `handles`, there at `places`."""

    words: list[str]
    cwd: str
    environment: dict[str, str]
    places: list[int]
    handles: list[int]

    @classmethod
    def received(cls, connection: socket.socket) -> Command | None:
        """None where the client is gone."""
        data, handles, _, _ = socket.recv_fds(connection, 1 << 20, 250)
        length, _, content = data.partition(b"\n")
        while data and len(content) < int(length):
            data = connection.recv(1 << 20)
            content += data
        return cls(handles=list(handles), **marshal.loads(content)) if data else None

    def close(self) -> None:
        for handle in self.handles:
            os.close(handle)

    def is_run_here(self, fixed: Mapping[str, str]) -> bool:
        """Whether it is run here as Python would: `fixed` is what was fixed of the environment."""
        first = [word for word in self.words[:3] if word not in FLAGS][:1]
        return fixed_of(self.environment) == fixed and any(word in ("-m", "-c") or word[0] != "-" for word in first)

    def run(self) -> None:
        """Run it in this process."""
        above = max(self.places) + 1
        moved = [fcntl.fcntl(handle, fcntl.F_DUPFD, above) for handle in self.handles]
        self.close()
        for place, handle in zip(self.places, moved, strict=True):
            os.dup2(handle, place)
            os.close(handle)
        os.chdir(self.cwd)
        os.environ.clear()
        os.environ.update(self.environment)
        multiprocessing.set_executable(loaded_python())
        first, *others = itertools.dropwhile(FLAGS.__contains__, self.words)
        unbuffered = "-u" in self.words[: -len(others) - 1] or "PYTHONUNBUFFERED" in os.environ
        lines = 1 if os.isatty(1) or unbuffered else -1
        sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = open(1, "w", buffering=lines, closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        for file in (Path(path, "sitecustomize.py") for path in paths):
            runpy.run_path(str(file)) if file.is_file() else None
        if first == "-m":
            sys.path[:0], sys.argv = [self.cwd, *paths], others
            runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        elif first == "-c":
            sys.path[:0], sys.argv = ["", *paths], ["-c", *others[1:]]
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(others[0], "<string>", "exec"), main.__dict__)
        else:
            sys.path[:0], sys.argv = [str(Path(first).resolve().parent), *paths], [first, *others]
            runpy.run_path(first, run_name="__main__")


class Server:
    """Waits for clients, for processes that end, and for the end of the standard input."""

    def __init__(self, listener: int) -> None:
        self._fixed, self._selector = fixed_of(os.environ), selectors.DefaultSelector()
        self._running: dict[int, socket.socket] = {}
        self._loaded = False
        self._listener = socket.socket(fileno=listener)
        self._woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for source in (self._listener, self._woken, 0):
            self._selector.register(source, selectors.EVENT_READ)

    def serve(self) -> Command:
        """Returns in each forked process, with what it is to run."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    for pid in self._running:
                        os.kill(pid, signal.SIGKILL)
                    os._exit(0)
                elif key.fileobj == self._woken:
                    os.read(self._woken, 4096)
                    self._tell_ended()
                elif key.fileobj is self._listener:
                    self._selector.register(self._listener.accept()[0], selectors.EVENT_READ)
                elif command := self._heard(key.fileobj):
                    return command

    def _heard(self, connection: socket.socket) -> Command | None:
        """A client says what it wants, or is gone; the command in the process that is forked for it, else None."""
        for pid, its in self._running.items():
            if its is connection:
                self._selector.unregister(connection)
                os.kill(pid, signal.SIGKILL)
                return None
        command = Command.received(connection)
        if command is None or not command.is_run_here(self._fixed):
            self._selector.unregister(connection)
            self._tell(connection, "no")
        else:
            self._load()
            pid = os.fork()
            if not pid:
                self._leave()
                return command
            self._running[pid] = connection
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(f"{pid}\n".encode())
        if command is not None:
            command.close()
        return None

    def _load(self) -> None:
        """Import the libraries, once. What they would take down at the end is two thirds of an empty process's time."""
        if self._loaded:
            return
        os.environ.update(INTERPRETED)
        for name in LIBRARIES:
            importlib.import_module(name)
        # Which looks through every distribution that is installed for its plugins as it makes its first model.
        importlib.import_module("pydantic").create_model("Model")
        atexit.unregister(importlib.import_module("torch._dynamo.utils").dump_compile_times)
        # torchrun asks at each step of a rendezvous for its function's name by the sources of all frames, and for each
        # of those looks through all modules: more than all else that it does.
        rendezvous = importlib.import_module("torch.distributed.elastic.rendezvous.dynamic_rendezvous")
        rendezvous.get_method_name = lambda depth=2: sys._getframe(depth).f_code.co_name
        for known in list(weakref.finalize._registry):  # type: ignore[attr-defined]
            known.atexit = False
        gc.freeze()
        self._loaded = True

    def _tell_ended(self) -> None:
        while self._running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            connection = self._running.pop(ended[0])
            with contextlib.suppress(KeyError):
                self._selector.unregister(connection)
            self._tell(connection, str(os.waitstatus_to_exitcode(ended[1])))

    def _tell(self, connection: socket.socket, what: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(f"{what}\n".encode())
        connection.close()

    def _leave(self) -> None:
        """Let go of what is the server's, in a forked process."""
        wakes = signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # As in a process of its own that was started from a terminal, however the tests were.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for key in list(self._selector.get_map().values()):
            os.close(key.fd) if key.fd else None
        os.close(wakes)
        self._selector.close()


def fixed_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment is read once."""
    return {name: value for name, value in environment.items() if name.startswith(FIXED) and name not in NOT_FIXED}


def end_with(status: str | int | None) -> NoReturn:
    """End the process as Python does, but leave its objects as they are."""
    if isinstance(status, str):
        print(status, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Multiprocessing's resource tracker has closed its own.
        if not stream.closed:
            stream.flush()
    os._exit(1 if isinstance(status, str) else status or 0)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    command = Server(int(sys.argv[1])).serve()
    try:
        command.run()
    except SystemExit as error:
        end_with(error.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        end_with(1)
    end_with(0)
