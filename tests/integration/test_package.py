"""The distributions that are built of this tree: what they hold, and what they say of themselves."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path

import pytest

import kafka_exec
from kafka_exec.broker.install.distribution import KAFKA_VERSION

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ROOT / "docs" / "versions.md"
STEM = f"kafka_exec-{kafka_exec.__version__}"

#: The package, and the fixtures for pytest.
PACKAGE = ("kafka_exec", "_kafka_exec_pytest.py")

#: What the source distribution has beside the package.
BESIDE = (
    "tests", "docs", "docker", "celery_app", "dev", "README.md", "LICENSE", "MANIFEST.in", "pyproject.toml", "setup.cfg",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, which is built of the source distribution, and that one."""
    # Of a copy: what an earlier build has left in the tree would be in the wheel too.
    tree = tmp_path_factory.mktemp("package") / "tree"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=left_out)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"], cwd=tree, check=True, capture_output=True
    )
    return tree / "dist" / f"{STEM}-py3-none-any.whl", tree / "dist" / f"{STEM}.tar.gz"


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> Message:
    with zipfile.ZipFile(built[0]) as wheel:
        return email.message_from_string(wheel.read(f"{STEM}.dist-info/METADATA").decode())


def files_of(*names: str) -> set[str]:
    """The files of these folders of the tree, and these files."""

    def found(path: Path) -> Iterable[Path]:
        return path.rglob("*") if path.is_dir() else [path]

    every = (path for name in names for path in found(ROOT / name) if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in every if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if not name.startswith(f"{STEM}.dist-info/")}
        assert wheel.read(f"{STEM}.dist-info/top_level.txt").split() == [b"_kafka_exec_pytest", b"kafka_exec"]
    assert names == files_of(*PACKAGE)
    assert "kafka_exec/py.typed" in names


def test_the_wheel_can_be_imported_without_the_tree(built: tuple[Path, Path], tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import kafka_exec, kafka_exec.worker; print(kafka_exec.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(built[0])},
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(built[0])), found.stderr


def test_the_source_distribution_holds_tests_documents_and_the_example(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        members = {member.name.removeprefix(f"{STEM}/"): member for member in archive.getmembers() if member.isfile()}
    ours = {name for name in members if not name.startswith("kafka_exec.egg-info/")}
    assert ours == files_of(*PACKAGE, *BESIDE) | {"PKG-INFO"}
    assert members["dev"].mode & 0o111


def test_the_metadata_is_complete(metadata: Message) -> None:
    assert metadata["Version"] == kafka_exec.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "The kafka_exec developers"
    assert {"celery", "kafka"} <= set(metadata["Keywords"].split(","))
    classifiers = metadata.get_all("Classifier") or []
    assert any(each.startswith("Development Status ::") for each in classifiers)
    pythons = {each.rsplit(" ", 1)[1] for each in classifiers if re.search(r":: Python :: 3\.\d+$", each)}
    assert pythons == {"3.10", "3.11", "3.12", "3.13"}


def test_an_index_page_needs_nothing_else(metadata: Message) -> None:
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert page.startswith("# kafka_exec")
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert [link for link in links if not link.startswith("https://")] == [], "a relative link leads nowhere there"
    assert VERSIONS.read_text(encoding="utf-8").strip() in page


def test_what_may_be_installed_beside_it_was_tested(metadata: Message) -> None:
    table = VERSIONS.read_text(encoding="utf-8")
    for name in ("Celery", "Kombu"):
        (range_,) = (each for each in metadata.get_all("Requires-Dist") or [] if re.match(f"{name.lower()}[<>]", each))
        lowest, above = (int(re.findall(rf"{sign}5\.(\d+)", range_)[0]) for sign in (">=", "<"))
        assert set(re.findall(rf"{name} 5\.(\d+)\.", table)) == {str(minor) for minor in range(lowest, above)}
    python_rows = "".join(line for line in table.splitlines() if line.startswith("| Python"))
    assert set(re.findall(r"3\.\d+", python_rows)) == {"3.10", "3.11", "3.12", "3.13"}
    assert f"| Kafka {KAFKA_VERSION}," in table


@pytest.mark.parametrize("tool", ["twine check --strict", "check_wheel_contents"])
def test_the_tools_of_indexes_find_nothing_wrong(built: tuple[Path, Path], tool: str) -> None:
    module, *arguments = tool.split()
    pytest.importorskip(module, reason="of the extra `dev`")
    files = [built[0]] if module == "check_wheel_contents" else built
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, *files], cwd=built[0].parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
