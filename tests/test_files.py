"""Files are replaced whole or not at all, locks hold between processes and end with them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from geoglot.errors import StorageError
from geoglot.files import ABANDONED_S, is_locked, replacing, sha256, take_lock, write_atomically


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.npy"
    for content in (b"one", b"two"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["a.npy"]


def _fail(path: Path, failure: type[BaseException]) -> None:
    with replacing(path) as part:
        part.write_bytes(b"half")
        raise failure


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(failure):
        _fail(path, failure)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write") as error, replacing(tmp_path / "file" / "a", hint="Do so."):
        pass
    assert error.value.hint == "Do so."
    with pytest.raises(StorageError), replacing(tmp_path / "a"):
        pass  # nothing was written
    assert not (tmp_path / "a").exists()


def test_many_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_atomically, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_scratch_of_killed_processes_goes_when_it_is_old(tmp_path: Path) -> None:
    old, fresh, other = (tmp_path / name for name in (".a.0001.part", ".a.0002.part", ".b.0001.part"))
    for folder in (old, fresh, other):
        folder.mkdir()
        (folder / "a").write_bytes(b"half")
    long_ago = time.time() - ABANDONED_S - 10
    for folder in (old, other):
        os.utime(folder, (long_ago, long_ago))
    write_atomically(tmp_path / "a", b"whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [fresh.name, other.name, "a"]


def test_a_lock_is_held_once_and_released_from_any_thread(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()  # asking makes nothing
    lock = take_lock(path)
    assert lock is not None
    assert is_locked(path)
    assert take_lock(path, wait_s=0.05) is None
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert not is_locked(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        take_lock(tmp_path / "file" / "lock")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from geoglot.files import take_lock
lock = take_lock(Path({str(tmp_path / "lock")!r}))
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_locked(tmp_path / "lock")
        assert take_lock(tmp_path / "lock") is None
        process.send_signal(signal.SIGKILL)
    lock = take_lock(tmp_path / "lock")
    assert lock is not None
    lock.release()


def test_the_checksum_is_that_of_all_bytes(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
