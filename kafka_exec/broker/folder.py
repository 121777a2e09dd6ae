"""The folder with all files of an embedded broker, and the note in it about the broker's shape."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path

from kafka_exec.broker.errors import DataMismatch, FolderNotWritable


def prepare(wanted: Path | None) -> Path:
    """Makes the folder, or a temporary one for None, and makes sure that it can be written.

    Raises:
        FolderNotWritable: it cannot be written.
    """
    try:
        if wanted is None:
            return Path(tempfile.mkdtemp(prefix="kafka_exec-"))
        wanted.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=wanted).close()
    except OSError as error:
        raise FolderNotWritable(wanted or Path(tempfile.gettempdir()), error.strerror or str(error)) from error
    return wanted


def remove(path: Path, owner: int) -> None:
    """Removes the folder if this process is its owner: a forked child finalizes its copy of the object when it ends."""
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


def cluster_id(path: Path, nodes: int, secured: bool) -> str:
    """The id of the cluster whose data is in the folder; the first call chooses it.

    Raises:
        DataMismatch: the data is of another number of nodes, or secured otherwise.
    """
    note = path / "cluster.json"
    if note.exists():
        found = json.loads(note.read_text())
        if (found["nodes"], found["secured"]) != (nodes, secured):
            raise DataMismatch(
                f"the data in {path} is of {found['nodes']} node(s), {'' if found['secured'] else 'not '}secured: "
                "start the broker in that shape or choose another folder"
            )
        return str(found["id"])
    identifier = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    unfinished = note.with_suffix(".new")
    unfinished.write_text(json.dumps({"id": identifier, "nodes": nodes, "secured": secured}))
    unfinished.rename(note)
    return identifier
