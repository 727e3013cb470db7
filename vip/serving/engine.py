"""A vLLM server of our own: started, watched and stopped; it ends with us even when we are killed."""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from schemas.canonical import fingerprint, sha256_hex
from schemas.endpoint import API_KEY
from schemas.errors import VipError
from schemas.spec import CaptionSpec, ModelIdentity
from storage.models import find_model, model_files, nano_folder
from vip.processes import OwnedProcess, check_port, free_port, last_lines, wait_until
from vip.serving.http import api_key
from vip.serving.identity import local_identity

_LOOPBACK = ("127.0.0.1", "localhost")
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - compared with, not listened at
_OURS = (
    *("--host", "--port", "--model", "--served-model-name", "--api-key", "--config"),
    *("--dtype", "--quantization", "-q", "--max-model-len"),
)
_PLACING = {
    *("--data-parallel-size", "-dp", "--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp"),
    *("--gpu-memory-utilization", "--kv-cache-memory-bytes", "--max-num-seqs", "--max-num-batched-tokens"),
    *("--enable-prefix-caching", "--no-enable-prefix-caching", "--mm-processor-cache-gb", "--cpu-offload-gb"),
    *("--enforce-eager", "--disable-log-stats", "--uvicorn-log-level"),
}
"""Arguments of vLLM that say where and how fast it answers, and never what; any other is told by the served name."""
STRUCTURED_OUTPUTS = {"backend": "xgrammar", "disable_any_whitespace": True}
"""Without ``disable_any_whitespace`` a small model answers a JSON schema with white space until it is cut."""


def find_serve_python() -> Path:
    """The interpreter of the serving environment.

    ``VIP_SERVE_PYTHON``, else ``.venv-serve/bin/python`` in the working directory, beside this checkout, or beside
    the environment that runs us.

    Raises:
        VipError: where there is none.
    """
    named = os.environ.get("VIP_SERVE_PYTHON")
    if named:
        if not Path(named).exists():
            raise VipError(f"VIP_SERVE_PYTHON is {named}, which does not exist", "point it at a Python that has vLLM")
        return Path(named)
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2], Path(sys.prefix).parent):
        python = folder / ".venv-serve" / "bin" / "python"
        if python.exists():
            return python
    raise VipError("no serving environment found", "run `make setup`, or set VIP_SERVE_PYTHON")


class Engine:
    """A vLLM server as a subprocess, for one model folder or hub id.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. Whatever happens to this process, the server
    and its children end. With a key in ``VIP_API_KEY`` the server asks it of everyone. The served name carries the
    digest of the weights and all that was told and can change an answer: nobody else's answers are taken for its own.

    Args:
        model: ``nano``, a local model folder, or a hub id.
        log: file for the server's output.
        port: TCP port; a free one where None.
        host: address to listen at; beyond loopback a key is demanded.
        dtype: as vLLM names it; ``auto`` for that of the checkpoint.
        quantization: as vLLM names it.
        max_model_len: context in tokens; 256 for nano and vLLM's own choice for others where None.
        ready_seconds: deadline for the first healthy answer; 500 for nano and 1800 for others where None.
        arguments: further arguments for vLLM.
        devices: GPUs that it sees, as ``CUDA_VISIBLE_DEVICES`` names them; all where None.

    Raises:
        VipError: where the model or the serving environment is not to be had, or others could ask without a key.
    """

    def __init__(
        self,
        model: str | Path,
        log: Path,
        port: int | None = None,
        host: str = "127.0.0.1",
        dtype: str = "auto",
        quantization: str = "",
        max_model_len: int | None = None,
        ready_seconds: float | None = None,
        arguments: tuple[str, ...] = (),
        serve_python: Path | None = None,
        devices: str | None = None,
    ) -> None:
        if host not in _LOOPBACK and api_key() is None:
            raise VipError(f"{host} is open to others, and there is no key to keep them out", f"set {API_KEY}")
        for taken in {_name(argument) for argument in arguments} & set(_OURS):
            raise VipError(f"{taken} is not for vLLM to be told", f"use the option of `vip serve`, or {API_KEY}")
        identity = local_identity(model, dtype=dtype, quantization=quantization)
        folder = find_model(str(model), "captioner")
        self.model, self.log, self.host = str(folder), log, host
        self.port = port or free_port(host)
        small = folder == nano_folder("captioner")
        self.ready_seconds, self._devices = ready_seconds or (500.0 if small else 1800.0), devices
        self.python = serve_python or find_serve_python()
        self.served_name = "-".join(filter(None, (identity.served_name, _changing(arguments))))
        self._command = self._build_command(identity, max_model_len or (256 if small else None), small, arguments)
        self._process: OwnedProcess | None = None

    @property
    def endpoint(self) -> str:
        """Base URL of the server, for this machine where it listens at every address."""
        return f"http://{'127.0.0.1' if self.host == _EVERYWHERE else self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the supervisor while it runs."""
        return self._process.pid if self._process else None

    def start(self, on_wait: Callable[[float], None] | None = None) -> "Engine":
        """Start the server and wait until it is healthy.

        Args:
            on_wait: called now and then with the seconds waited, for progress.

        Raises:
            VipError: where its port is taken, or, with the last lines of the log, where it died or the deadline passed.
        """
        check_port(self.host, self.port)  # whoever listens there now would be taken for ours
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        self._process = OwnedProcess(self._command, self.log, self._environment())
        started = time.monotonic()

        def healthy() -> bool:
            if on_wait:
                on_wait(time.monotonic() - started)
            return is_healthy(self.endpoint)

        try:
            ready = wait_until(healthy, self._process, self.ready_seconds, every=0.25)
        except BaseException:  # Ctrl-C too must not leave a server behind
            self.stop()
            raise
        if not ready:
            code, why = self._process.poll(), self._why()  # before the stop, whose own errors the log would end with
            self.stop()
            late = f"was not ready within {self.ready_seconds:.0f} s"
            what = late if code is None else f"ended with exit code {code}"
            raise VipError(f"vLLM for {self.model} {what}: {why}", f"see its log {self.log}")
        return self

    def stop(self) -> None:
        """End the server and everything it started; harmless where it has ended."""
        if self._process:
            self._process.stop()

    def check(self) -> None:
        """Do nothing while the server runs.

        Raises:
            VipError: with the last lines of its log, where it has ended.
        """
        code = self._process.poll() if self._process else None
        if code is not None:
            raise VipError(f"vLLM ended with exit code {code}: {self._why()}", f"see its log {self.log}")

    def _why(self) -> str:
        """The line of the log that says what went wrong, else its last lines."""
        if self.log.exists():
            lines = self.log.read_text(errors="replace").splitlines()
            for line in reversed(lines):
                text = line.rpartition(") ")[2].strip() if line.startswith("(") else line.strip()
                if text.split(":")[0].endswith(("Error", "Exception")) and "EngineCore" not in text.split(":")[0]:
                    return text[:300]
        return last_lines(self.log, 3)

    def _build_command(
        self, identity: ModelIdentity, max_model_len: int | None, eager: bool, arguments: tuple[str, ...]
    ) -> list[str]:
        command = [str(self.python), "-m", "vllm.entrypoints.openai.api_server", "--model", self.model]
        command += ["--served-model-name", self.served_name, "--host", self.host, "--port", str(self.port)]
        command += ["--dtype", identity.dtype, "--structured-outputs-config", json.dumps(STRUCTURED_OUTPUTS)]
        # One line a request would be the largest file of a long run.
        command += ["--disable-uvicorn-access-log", "--no-enable-log-requests"]
        if identity.quantization:
            command += ["--quantization", identity.quantization]
        if max_model_len:
            command += ["--max-model-len", str(max_model_len)]
        if eager:  # no compilation: quicker to start, and what a small model on a CPU wants
            command += ["--enforce-eager"]
        return command + list(arguments)

    def _environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment.update(
            VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_LOGGING_COLOR="0", NO_COLOR="1", HF_HUB_OFFLINE="1"
        )
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        if self._devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices
        if key := api_key():
            environment["VLLM_API_KEY"] = key  # an argument would stand in the list of processes
        return environment

    def __enter__(self) -> "Engine":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def engine_for(spec: CaptionSpec, log: Path, **settings: Any) -> Engine:
    """The engine that answers a resolved spec, served as the spec says.

    Args:
        settings: further arguments of :class:`Engine`, such as ``port`` or ``arguments``.

    Raises:
        VipError: where the model is declared, so that nobody knows what to serve; else as :class:`Engine`.
    """
    model = spec.model
    if model.declared:
        raise VipError(
            f"model {model.id} of spec {spec.name} is declared: somebody else serves it, and no endpoint is given",
            "give --endpoint, or take `declared` out of the spec",
        )
    return Engine(model.place, log, **{"dtype": model.dtype, "quantization": model.quantization, **settings})


def _name(argument: str) -> str:
    """The option that an argument names; vLLM takes underscores for dashes."""
    name = argument.partition("=")[0]
    return name.replace("_", "-") if name.startswith("--") else name


def _changing(arguments: tuple[str, ...]) -> str:
    """A short hash over the arguments that can change an answer, of files what they hold; empty where none can."""
    told: list[str] = []
    placing = False
    for argument in arguments:
        placing = _name(argument) in _PLACING if argument.startswith("-") else placing
        if not placing:
            name, _, value = argument.rpartition("=")
            told += [name, _content(value)]
    return fingerprint(told)[:8] if told else ""


def _content(value: str) -> str:
    """What a file holds, or a folder of what is a model's, such as an adapter or a tokenizer; else the value itself.

    The same content elsewhere is told by the same name, and another content in the same place by another.
    """
    if os.path.isfile(value):  # noqa: PTH113 - false, not an error, for what can be no path
        return sha256_hex(Path(value).read_bytes())
    files = model_files(Path(value)) if os.path.isdir(value) else {}  # noqa: PTH112 - as above
    return fingerprint(files) if files else value


def is_healthy(endpoint: str, timeout: float = 2.0) -> bool:
    """Whether ``/health`` answers 200."""
    try:
        with urllib.request.urlopen(f"{endpoint}/health", timeout=timeout) as answer:  # noqa: S310 - our own http URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
