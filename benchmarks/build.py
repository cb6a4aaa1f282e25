"""Compile a C file on first use.

Results are kept in `benchmarks/.build` (never in version control) under a name that holds a hash of the source, so an
edited file is compiled again and two runs at once cannot disturb each other.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

BUILD = Path(__file__).with_name(".build")


class BuildError(Exception):
    """The compiler is there and refuses the source; carries what it said."""


def compiler() -> str | None:
    """Return the C compiler: `$CC`, else `cc` on the path, else None."""
    return shutil.which(os.environ.get("CC", "cc"))


def compiled(source: Path) -> Path | None:
    """Return the program made of one C file, or None when there is no compiler.

    :raises BuildError: with the compiler's words.
    """
    cc = compiler()
    if cc is None:
        return None
    program = BUILD / f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if program.exists():
        return program
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        fresh = Path(scratch) / source.stem
        done = subprocess.run([cc, "-O2", "-o", str(fresh), str(source)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{cc} cannot compile {source}:\n{done.stderr.strip()}")
        fresh.replace(program)  # atomic: nobody ever sees half a program
    return program
