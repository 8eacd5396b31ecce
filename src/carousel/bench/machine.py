"""What a figure was measured on; no figure is printed or stored without it."""

from __future__ import annotations

import datetime
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "this_machine"]

_COMPILER = re.compile(rb"(GCC: )\([^)]*\) ([\d.]+)|(clang version )([\d.]+)")


@dataclass(frozen=True)
class Machine:
    """Processor, software and threads of a run.

    Example:
        >>> machine = Machine("AMD EPYC", 2, "avx512", 1, "GCC 12.2.0", "3.11.7", "0.1.0", "2.13.0", "2026-11-20")
        >>> print(machine)
        AMD EPYC, 2 cores; avx512, carousel 0.1.0, torch 2.13.0, 1 thread; GCC 12.2.0, Python 3.11.7
        >>> machine.slug
        'amd-epyc-2-cores'
    """

    cpu: str
    cores: int
    isa: str
    threads: int
    compiler: str
    python: str
    carousel: str
    torch: str
    date: str

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' * (self.cores > 1)}"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        software = f"{self.isa}, carousel {self.carousel}, torch {self.torch}, {threads}"
        return f"{self.cpu}, {cores}; {software}; {self.compiler}, Python {self.python}"

    @property
    def slug(self) -> str:
        """Processor and cores as part of a file name."""
        words = re.findall(r"[a-z0-9]+", re.sub(r"\((R|TM)\)", "", self.cpu).lower())
        return "-".join([*words, str(self.cores), "cores"])


def this_machine() -> Machine:
    """This machine, and torch's number of threads as it is now.

    Raises:
        RuntimeError: CAROUSEL_ISA names an instruction set that is not there.
    """
    import torch

    import carousel
    from carousel import _core

    return Machine(
        cpu=_processor(),
        cores=len(os.sched_getaffinity(0)),
        isa=_core.isa(),
        threads=torch.get_num_threads(),
        compiler=_compiler(Path(_core.__file__)),
        python=platform.python_version(),
        carousel=carousel.__version__,
        torch=str(torch.__version__),
        date=datetime.date.today().isoformat(),
    )


def _processor() -> str:
    """The processor's name, as the system tells it; the architecture where it does not."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    return processor_name(text) or platform.machine()


def processor_name(cpuinfo: str) -> str:
    """The name of the first processor of /proc/cpuinfo; its family and model, too, where a hypervisor has shortened the
    name to one that several generations share.

    Example:
        >>> processor_name("model name : AMD EPYC 9654 96-Core Processor")
        'AMD EPYC 9654 96-Core Processor'
        >>> processor_name("cpu family : 26\\nmodel : 2\\nmodel name : AMD EPYC")
        'AMD EPYC (family 26 model 2)'
    """
    fields: dict[str, str] = {}
    for key, _, value in (line.partition(":") for line in cpuinfo.splitlines()):
        fields.setdefault(key.strip(), value.strip())
    name, kind = fields.get("model name", ""), (fields.get("cpu family"), fields.get("model"))
    says_which = re.search(r"\d{3}", name.partition("@")[0])
    return name if not name or says_which or None in kind else f"{name} (family {kind[0]} model {kind[1]})"


def _compiler(library: Path) -> str:
    """What built the kernels: compilers leave their name in the `.comment` section of what they make."""
    found = _COMPILER.search(library.read_bytes())
    if found is None:
        return "compiler unknown"
    name, version = (part for part in found.groups() if part is not None)
    return f"{name.split()[0].decode().rstrip(':')} {version.decode()}"
