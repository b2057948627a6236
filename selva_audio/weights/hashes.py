"""What is known about files on this machine: a hash is computed once, then remembered.

The register is a small JSON file in the user data folder. A remembered hash holds for as long as the
file keeps its path, size and time of change.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files import file_lock, write_text
from ..progress import Progress, ProgressFn, ignore_progress
from .places import user_folder

logger = logging.getLogger(__name__)

_CHUNK = 8 * 2**20


@dataclass(frozen=True, slots=True)
class HashRegister:
    """The register in one JSON file.

    Attributes:
        path: the file; it need not exist.
    """

    path: Path

    @classmethod
    def of_user(cls) -> "HashRegister":
        """The register in this user's data folder."""
        return cls(user_folder() / "verified.json")

    def md5(self, path: Path, on_progress: ProgressFn = ignore_progress) -> str:
        """Hash of ``path``: remembered, or computed now and remembered."""
        return self.remembered(path) or self.refresh(path, on_progress)

    def refresh(self, path: Path, on_progress: ProgressFn = ignore_progress) -> str:
        """Hash of ``path``, computed now whatever is remembered."""
        digest = file_md5(path, on_progress)
        self.remember(path, digest)
        return digest

    def remembered(self, path: Path) -> str | None:
        """Hash of ``path`` if it was computed before and the file has not changed since."""
        entry = self._read()["files"].get(str(path.resolve()))
        return entry["md5"] if entry and {**entry, **_stamp(path)} == entry else None

    def remember(self, path: Path, md5: str) -> None:
        """Keep the hash of a file."""
        self._update("files", str(path.resolve()), {**_stamp(path), "md5": md5})

    def recorded(self, name: str) -> str | None:
        """Hash that the file called ``name`` in the table had at its first download."""
        recorded: str | None = self._read()["first_downloads"].get(name)
        return recorded

    def record(self, name: str, md5: str) -> None:
        """Keep the hash of a first download of a file that has no published one."""
        self._update("first_downloads", name, md5)

    def _read(self) -> dict[str, dict[str, Any]]:
        empty: dict[str, dict[str, Any]] = {"files": {}, "first_downloads": {}}
        try:
            content = {**empty, **json.loads(self.path.read_text(encoding="utf-8"))}
            if not all(isinstance(content[section], dict) for section in empty):
                raise ValueError("not a register")
            return content
        except FileNotFoundError:
            return empty
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s is not readable (%s); hashes are computed again.", self.path, error)
            return empty

    def _update(self, section: str, key: str, value: Any) -> None:
        try:
            with file_lock(self.path):
                content = self._read()
                content[section] = {**content[section], key: value}
                write_text(self.path, json.dumps(content, indent=1, sort_keys=True) + "\n")
        except (OSError, OutputError) as error:
            logger.warning("The hash of %s is not remembered: %s", key, error)


def file_md5(path: Path, on_progress: ProgressFn = ignore_progress) -> str:
    """MD5 of a whole file, the hash that upstream publishes; reports bytes read."""
    total = path.stat().st_size
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            on_progress(Progress(f"checking {path.name}", done, total))
    return digest.hexdigest()


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
