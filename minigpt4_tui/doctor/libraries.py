"""Checks of installed packages; those with compiled code are imported in processes of their own.

A library built for another processor kills its process without a message; the doctor must survive that.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from minigpt4.tui.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TIMEOUT_S = 120
"""Limit for importing torch: from a cold disk it takes about thirty seconds."""

CPU_FEATURES = {"AVX": "avx", "AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "AVX512": "avx512f"}
"""The instruction sets that speed up llama.cpp most: its name for each, and Linux's."""

MODULES = {"pillow": "PIL", "markdown-it-py": "markdown_it", "huggingface-hub": "huggingface_hub"}
"""Packages whose module has another name."""

PROBED_APART = ("torch", "textual-image")
"""Not imported by ImportProbe: torch has its own probe, textual-image queries the terminal on import."""

REBUILD = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"


def packages() -> Iterator[Finding]:
    """Whether each required package is installed in a version that fits."""
    try:
        required = _requirements()
    except importlib.metadata.PackageNotFoundError:
        advice = "`pip install -e .` installs it"
        yield Finding("packages", "warning", "minigpt4 itself is not installed", advice)
        return
    wrong = 0
    for requirement in required:
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong += 1
            state = "is missing" if found is None else f"is {found}, but {requirement.specifier} is needed"
            pip = f"`pip install '{requirement.name}{requirement.specifier}'`"
            yield Finding("packages", "problem", f"{requirement.name} {state}", pip)
    yield Finding("packages", "ok", f"{len(required) - wrong} of {len(required)} installed and recent enough")


def _requirements() -> list[Requirement]:
    """minigpt4's requirements on this machine, without its extras."""
    from packaging.requirements import Requirement

    required = [Requirement(line) for line in importlib.metadata.requires("minigpt4") or []]
    return [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class LibraryProbe(ABC):
    """A library imported in a child process, which starts at once and is read at the end."""

    name: ClassVar[str]
    script: ClassVar[str]
    """Prints a JSON object as its last line."""

    reinstall: ClassVar[str]
    """The advice if the library is broken."""

    @abstractmethod
    def judge(self, info: dict[str, Any]) -> Iterator[Finding]:
        """Findings from what the script printed."""

    def __init__(self, *arguments: str) -> None:
        """`arguments` are the script's `sys.argv[1:]`."""
        self._arguments = arguments

    def broken(self, how: str, output: list[str]) -> Finding:
        """The finding for a process that failed after printing the lines `output`."""
        del output
        return Finding(self.name, "problem", how, self.reinstall)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            # -P: a file in the working folder must not shadow a library.
            [sys.executable, "-P", "-c", self.script, *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def findings(self) -> Iterator[Finding]:
        """What the library reports, or how it failed."""
        try:
            output, errors = self._process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            yield self.broken(f"did not load within {TIMEOUT_S} s", [])
            return
        code = self._process.returncode
        lines = output.strip().splitlines()
        if code == 0 and lines:
            try:
                yield from self.judge(json.loads(lines[-1]))
            except (ValueError, TypeError, LookupError):
                yield self.broken(f"gives an unexpected answer: {lines[-1][:200]}", [])
        elif code < 0:
            cause = "; it was built for another processor" if -code == signal.SIGILL else ""
            yield self.broken(f"killed its process with {signal.Signals(-code).name}{cause}", lines)
        else:
            error = (errors.strip().splitlines() or ["no message"])[-1]
            yield self.broken(f"cannot be imported: {error}", lines)


class ImportProbe(LibraryProbe):
    """All other packages: one may be installed in the right version and still be broken."""

    name = "imports"
    reinstall = "`pip check` says which packages do not fit together"
    script = """
import importlib, json, sys
broken = {}
for package, module in (one.split("=") for one in sys.argv[1:]):
    print(package, flush=True)
    try:
        importlib.import_module(module)
    except BaseException as problem:
        broken[package] = f"{type(problem).__name__}: {problem}"
print(json.dumps(broken))
"""

    def __init__(self) -> None:
        """Probe the installed packages, except PROBED_APART."""
        try:
            names = [one.name for one in _requirements()]
        except (importlib.metadata.PackageNotFoundError, ImportError):
            names = []
        installed = [name for name in names if name not in PROBED_APART and _version(name)]
        super().__init__(
            *(f"{name}={MODULES.get(name.lower(), name.replace('-', '_'))}" for name in installed)
        )

    def judge(self, info: dict[str, Any]) -> Iterator[Finding]:
        """Each package that cannot be imported."""
        for package, error in info.items():
            yield self.broken(f"cannot be imported: {error}", [package])
        if not info:
            yield Finding(self.name, "ok", "every package can be imported")

    def broken(self, how: str, output: list[str]) -> Finding:
        """The package printed last is the one whose import ended the process."""
        if not output:
            return super().broken(how, output)
        package = output[-1]
        return Finding(package, "problem", how, f"`pip install --force-reinstall --no-cache-dir {package}`")


class TorchProbe(LibraryProbe):
    """torch, and the GPUs that it finds."""

    name = "torch"
    reinstall = "`pip install --force-reinstall torch`"
    script = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__, "built": torch.version.cuda, "threads": torch.get_num_threads(),
    "gpus": [
        [torch.cuda.get_device_name(n), *torch.cuda.mem_get_info(n)]
        for n in range(torch.cuda.device_count() if cuda else 0)
    ],
}))
"""

    def judge(self, info: dict[str, Any]) -> Iterator[Finding]:
        """The version; each GPU; a GPU that torch cannot use."""
        yield Finding("torch", "ok", f"{info['version']}, {info['threads']} CPU threads")
        for gpu, free, total in info["gpus"]:
            yield Finding("cuda", "ok", f"{gpu}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
        if info["gpus"]:
            return
        if not has_nvidia_gpu():
            yield Finding("cuda", "ok", "no GPU; everything runs on the CPU")
            return
        if info["built"] is None:
            cause = "this torch was built without CUDA"
            advice = "install a build with CUDA: pytorch.org/get-started has the command for yours"
        else:
            cause = f"torch, built for CUDA {info['built']}, cannot use it"
            advice = "`nvidia-smi` shows whether the driver is new enough; update it"
        yield Finding("cuda", "warning", f"an NVIDIA GPU is installed, but {cause}", advice)


class LlamaProbe(LibraryProbe):
    """llama.cpp, and the CPU features that it was built with."""

    name = "llama.cpp"
    reinstall = f"`{REBUILD}` builds it for this processor"
    script = """
import json, llama_cpp
print(json.dumps({
    "version": llama_cpp.__version__, "system": llama_cpp.llama_print_system_info().decode(),
    "gpu": bool(llama_cpp.llama_supports_gpu_offload()),
}))
"""

    def judge(self, info: dict[str, Any]) -> Iterator[Finding]:
        """The version, the features it was built with, and CPU features that it leaves unused."""
        built = re.findall(r"(\w+) = 1", info["system"])
        used = [name for name in CPU_FEATURES if name in built]
        flags = processor_flags()
        unused = [name for name, flag in CPU_FEATURES.items() if flag in flags and name not in used]
        gpu = "with GPU support" if info["gpu"] else "without GPU support"
        detail = f"{info['version']}, built {gpu}, for {', '.join(used) or 'any processor'}"
        if unused:
            detail += f"; the processor also has {', '.join(unused)}, which would make answers faster"
            yield Finding(self.name, "warning", detail, self.reinstall)
        else:
            yield Finding(self.name, "ok", detail)

    def broken(self, how: str, output: list[str]) -> Finding:
        """If it is not installed, only a warning: it is optional, as torch answers without it."""
        if "No module named 'llama_cpp'" in how:
            advice = "`pip install 'minigpt4[llama]'` halves the time to the first token"
            return Finding(self.name, "warning", "not installed; torch answers instead", advice)
        return super().broken(how, output)


def processor_flags() -> frozenset[str]:
    """The CPU's features as Linux names them; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def has_nvidia_gpu() -> bool:
    """Whether NVIDIA's driver or its tool is installed."""
    return Path("/proc/driver/nvidia/gpus").exists() or shutil.which("nvidia-smi") is not None
