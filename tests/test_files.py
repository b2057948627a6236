import hashlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selva_audio.errors import InputError, OutputError
from selva_audio.files import atomic_path, file_digest, file_lock, inside, safe_name, write_bytes, write_text


def test_a_written_file_is_whole_and_alone_in_its_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "grün")
    assert path.read_text(encoding="utf-8") == "grün"
    assert os.listdir(path.parent) == ["c.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_keeps_the_old_content_and_leaves_nothing(tmp_path: Path, error: type) -> None:
    path = tmp_path / "c.txt"
    write_text(path, "old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        assert temporary.suffix == ".txt"
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["c.txt"]


def test_a_parent_that_is_a_file_is_told(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    with pytest.raises(OutputError, match="Cannot create the folder"):
        write_bytes(tmp_path / "file" / "x.txt", b"")


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_bytes(tmp_path, b"")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from selva_audio.errors import OutputError; from selva_audio.files import write_bytes\n"
        "from pathlib import Path\n"
        "try: write_bytes(Path(sys.argv[1]), bytes(100_000))\n"
        "except OutputError as error: sys.exit(str(error))"
    )

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    command = [sys.executable, "-c", code, str(tmp_path / "x.bin")]
    run = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files)
    assert "no space is left, or a size limit was reached" in run.stderr
    assert "Traceback" not in run.stderr
    assert os.listdir(tmp_path) == []


def test_one_process_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("0")
    code = (
        "import sys, time; from pathlib import Path; from selva_audio.files import file_lock\n"
        "path = Path(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with file_lock(path):\n"
        "        value = int(path.read_text()); time.sleep(0.001); path.write_text(str(value + 1))"
    )
    command = [sys.executable, "-c", code, str(counter)]
    with file_lock(counter):
        workers = [subprocess.Popen(command) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert counter.read_text() == "40"


@given(st.text(max_size=60))
def test_a_safe_name_is_a_single_path_part_or_refused(name: str) -> None:
    try:
        safe = safe_name(name)
    except InputError:
        return
    assert Path(safe).name == safe
    assert safe not in (".", "..")
    assert not set(safe) & set('\0/\\:*?"<>|')
    assert safe_name(safe) == safe


@pytest.mark.parametrize("name", ["", "..", "/", "con", "NUL.txt", "a" * 500])
def test_an_unusable_name_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        safe_name(name)


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "a/../../x", "a\0b", "link/x"])
def test_nothing_leaves_its_root(tmp_path: Path, relative: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(InputError):
        inside(root, relative)


def test_a_path_inside_is_resolved(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/./b.txt") == tmp_path.resolve() / "a" / "b.txt"


def test_a_digest_covers_the_whole_file(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)
    assert file_digest(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    assert file_digest(tmp_path / "x", "md5") == hashlib.md5(data).hexdigest()
