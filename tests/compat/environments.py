"""An environment of its own for each client, made from pins of the package index.

They live in the cache folder, are made once, and again when their pins change: a stamp that is
written last holds a hash of what they were made from. uv makes them; where a client needs torch,
pip installs that first, since it finds a CPU build where the machine offers one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.compat.suites import Suite

# A command, its environment and its folder; raises InstallError where it fails.
Run = Callable[[Sequence[str | Path], Mapping[str, str], Path], None]
_STAMP = ".made-from"
_UV = Path(sys.executable).with_name("uv")


class InstallError(Exception):
    """A client could not be installed; the text is what the installer said."""


def environment_of(suite: Suite, cache: Path, run: Run) -> Path:
    """The folder of the suite's virtual environment, made if it is not there.

    Raises:
        InstallError: it cannot be made.
    """
    folder = cache / "environments" / suite.pins
    made_from = _made_from(suite)
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_from:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    seed = ("--seed",) if suite.torch else ()
    run((_UV, "venv", "--quiet", "--python", sys.executable, *seed, folder), {}, cache)
    if suite.torch:
        run([python, "-m", "pip", "install", "--quiet", f"torch=={suite.torch}"], {}, cache)
    run([_UV, "pip", "install", "--quiet", "--python", python, "-r", suite.pins_file], {}, cache)
    if suite.node:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(suite.path / name, folder / name)
        npm = (folder / "bin" / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        run(npm, {"PATH": path_with(folder)}, folder)
    stamp.write_text(made_from, encoding="utf-8")
    return folder


def path_with(environment: Path) -> str:
    """PATH with the environment's commands first."""
    return f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"


def source_of(suite: Suite, cache: Path, run: Run) -> Path:
    """The archive of the suite's source distribution, downloaded if it is not there.

    Raises:
        InstallError: the package index does not have it.
    """
    name, _, version = suite.sdist.partition("==")
    archive = cache / "sources" / f"{name}-{version}.tar.gz"
    if not archive.is_file():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        run([*pip, "--no-binary", name, "--dest", archive.parent, suite.sdist], {}, cache)
    return archive


def _made_from(suite: Suite) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} {suite.torch}".encode())
    digest.update(suite.pins_file.read_bytes())
    if suite.node:
        digest.update((suite.path / "package-lock.json").read_bytes())
    return digest.hexdigest()
