"""carousel: recurrent networks you can read, on kernels ahead of every framework on a CPU.

`import carousel` is light: what needs torch is loaded at first use (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0"
