"""The doctor's look at installed packages, each tried in a process of its own.

A library built for another processor ends its process without a word; ours has to stay to tell of it.
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
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from minigpt4.tui.doctor.checks import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PATIENCE = 120
"""Seconds that importing torch may take: a cold disk needs about thirty."""

CPU_FEATURES = {"AVX": "avx", "AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "AVX512": "avx512f"}
"""llama.cpp's names for what speeds it up most, and Linux's."""

MODULES = {"pillow": "PIL", "markdown-it-py": "markdown_it", "huggingface-hub": "huggingface_hub"}
"""Packages whose module is called otherwise."""

TRIED_ELSEWHERE = ("torch", "textual-image")
"""Not imported with the others: one has its own lines, the other asks the terminal while it is imported."""

REBUILD = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"


def packages() -> Iterator[Finding]:
    """Whether each package that minigpt4 asks for is here, in a version that it works with."""
    try:
        wanted = _requirements()
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages", "warning", "minigpt4 itself is not installed", "`pip install -e .` installs it"
        )
        return
    wrong = 0
    for requirement in wanted:
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong += 1
            state = "is missing" if found is None else f"is {found}, and {requirement.specifier} is needed"
            pip = f"`pip install '{requirement.name}{requirement.specifier}'`"
            yield Finding("packages", "problem", f"{requirement.name} {state}", pip)
    yield Finding("packages", "ok", f"{len(wanted) - wrong} of {len(wanted)} as they should be")


def _requirements() -> list[Requirement]:
    """What minigpt4 asks for on this machine, its extras left out."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in importlib.metadata.requires("minigpt4") or []]
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class LibraryProbe(ABC):
    """A library tried in a process that starts at once and is asked at the end."""

    name: ClassVar[str]
    script: ClassVar[str]
    """Prints a JSON object as its last line."""

    reinstall: ClassVar[str]
    """The way out where it is broken."""

    @abstractmethod
    def judge(self, facts: dict[str, Any]) -> Iterator[Finding]:
        """Findings from what the script printed."""

    def arguments(self) -> list[str]:
        """What the script finds in `sys.argv[1:]`."""
        return []

    def __enter__(self) -> Self:
        # -P: a file of the working folder must not stand in for a library.
        command = [sys.executable, "-P", "-c", self.script, *self.arguments()]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def findings(self) -> Iterator[Finding]:
        """What the library says of itself, or how it failed."""
        try:
            output, complaints = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            yield Finding(self.name, "problem", f"did not load within {PATIENCE} s", self.reinstall)
            return
        code = self._process.returncode
        lines = output.strip().splitlines()
        if code == 0 and lines:
            try:
                yield from self.judge(json.loads(lines[-1]))
            except (ValueError, TypeError, LookupError):
                yield Finding(self.name, "problem", f"answers oddly: {lines[-1][:200]}", self.reinstall)
        elif code < 0:
            ended = signal.Signals(-code).name
            other = "; it was built for another processor" if -code == signal.SIGILL else ""
            yield self.ended(f"ended its process with {ended}{other}", lines)
        else:
            last = (complaints.strip().splitlines() or ["no message"])[-1]
            yield self.absent(last)

    def ended(self, how: str, lines: list[str]) -> Finding:
        """The finding where its process is gone, after having printed `lines`."""
        del lines
        return Finding(self.name, "problem", how, self.reinstall)

    def absent(self, complaint: str) -> Finding:
        """The finding where it cannot be imported."""
        return Finding(self.name, "problem", f"cannot be imported: {complaint}", self.reinstall)


class ImportProbe(LibraryProbe):
    """All other packages: one may be here in the right version, and broken."""

    name = "imports"
    reinstall = "`pip check` tells which packages do not fit each other"
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

    def arguments(self) -> list[str]:
        """The packages that are here, each with its module."""
        try:
            wanted = [one.name for one in _requirements()]
        except (importlib.metadata.PackageNotFoundError, ImportError):
            return []
        here = [name for name in wanted if name not in TRIED_ELSEWHERE and _version(name)]
        return [f"{name}={MODULES.get(name.lower(), name.replace('-', '_'))}" for name in here]

    def judge(self, facts: dict[str, Any]) -> Iterator[Finding]:
        """Each package that cannot be imported."""
        for package, problem in facts.items():
            yield Finding(
                package,
                "problem",
                f"cannot be imported: {problem}",
                f"`pip install --force-reinstall --no-cache-dir {package}`",
            )
        if not facts:
            yield Finding(self.name, "ok", "every package can be imported")

    def ended(self, how: str, lines: list[str]) -> Finding:
        """The package that was tried last ended the process."""
        package = lines[-1] if lines else self.name
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

    def judge(self, facts: dict[str, Any]) -> Iterator[Finding]:
        """The version; each GPU; a GPU that torch cannot use."""
        yield Finding("torch", "ok", f"{facts['version']}, {facts['threads']} processor threads")
        for gpu, free, total in facts["gpus"]:
            yield Finding("cuda", "ok", f"{gpu}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
        if facts["gpus"]:
            return
        if not has_nvidia_gpu():
            yield Finding("cuda", "ok", "no GPU; the processor does the work")
        elif facts["built"] is None:
            yield Finding(
                "cuda",
                "warning",
                "there is an NVIDIA GPU, and this torch was built without CUDA",
                "install a build with CUDA: pytorch.org/get-started tells the command for yours",
            )
        else:
            yield Finding(
                "cuda",
                "warning",
                f"there is an NVIDIA GPU, and torch, built for CUDA {facts['built']}, cannot use it",
                "`nvidia-smi` tells whether the driver is new enough; update it",
            )


class LlamaProbe(LibraryProbe):
    """llama.cpp, and the processor's features that it was built with."""

    name = "llama.cpp"
    reinstall = f"`{REBUILD}` builds it for this processor"
    script = """
import json, llama_cpp
print(json.dumps({
    "version": llama_cpp.__version__, "system": llama_cpp.llama_print_system_info().decode(),
    "gpu": bool(llama_cpp.llama_supports_gpu_offload()),
}))
"""

    def judge(self, facts: dict[str, Any]) -> Iterator[Finding]:
        """The version, what it was built with, and what the processor has that it leaves unused."""
        built = set(re.findall(r"(\w+) = 1", facts["system"]))
        here = processor_flags()
        unused = [name for name, flag in CPU_FEATURES.items() if flag in here and name not in built]
        gpu = "with a GPU" if facts["gpu"] else "without a GPU"
        uses = [name for name in CPU_FEATURES if name in built]
        detail = f"{facts['version']}, built {gpu}, for {', '.join(uses) or 'any processor'}"
        if unused:
            text = f"{detail}; the processor also has {', '.join(unused)}, and answers could come faster"
            yield Finding(self.name, "warning", text, self.reinstall)
        else:
            yield Finding(self.name, "ok", detail)

    def absent(self, complaint: str) -> Finding:
        """It is an extra: torch answers without it."""
        if "No module named 'llama_cpp'" in complaint:
            advice = "`pip install 'minigpt4[llama]'`: the first word then comes in half the time"
            return Finding(self.name, "warning", "not installed; torch answers instead", advice)
        return super().absent(complaint)


def processor_flags() -> frozenset[str]:
    """The processor's features as Linux names them; empty where it does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def has_nvidia_gpu() -> bool:
    """Whether NVIDIA's driver, or its tool, is here."""
    return Path("/proc/driver/nvidia/gpus").exists() or shutil.which("nvidia-smi") is not None
