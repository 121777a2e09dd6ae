"""The tests of an installed distribution, from the source distribution of exactly its version."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"


class NoTests(Exception):
    """The tests of a distribution cannot be had, and why."""


def upstream_tests(name: str) -> Path:
    """Returns a folder holding the unmodified ``t`` package of ``name`` and its pytest settings, downloaded on first use.

    Only these are kept: with the rest of the source on ``sys.path``, the suite could import that, not what is installed.
    """
    stem = f"{name}-{version(name)}"
    folder = CACHE / stem
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        # All happens in a scratch folder and appears by one rename: an interrupted run leaves no half of it.
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            unpacked = _unpack(_download(name, Path(scratch)), stem, Path(scratch))
            shutil.copytree(unpacked / "t", Path(scratch, "tests", "t"))
            if (settings := unpacked / "pyproject.toml").exists():
                shutil.copy(settings, Path(scratch, "tests"))
            Path(scratch, "tests").replace(folder)
    return folder


def _download(name: str, target: Path) -> Path:
    """Fetches the source distribution with pip; what building its metadata takes may come as wheels."""
    requirement = f"{name}=={version(name)}"
    print(f"conformance: downloading the source distribution of {requirement} …", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run([*command, "--no-binary", name, "--dest", str(target), requirement], check=True)
    except subprocess.CalledProcessError as error:
        raise NoTests(f"pip could not download {requirement} (its message is above)") from error
    return next(target.glob("*.tar.gz"))


def _unpack(archive: Path, stem: str, target: Path) -> Path:
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    folder = target / stem
    if not (folder / "t" / "__init__.py").is_file():
        raise NoTests(f"{archive.name} holds no {stem}/t/__init__.py")
    return folder
