"""Files that are there whole or not at all."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

__all__ = ["replaced", "sole", "write_whole"]


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file to write to; at the end it is flushed to the disk and takes the place of `path`.

    Raises:
        OSError: It cannot be written, with `path` as its file; what was at `path` is still there.
    """
    # In a folder of its own: safetensors writes to a file beside the one that it is given, and a process that is killed
    # leaves both. Whoever writes `path` the next time clears them away.
    scratch = path.with_name(f".{path.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.unlink(missing_ok=True)  # what earlier versions left was a file
    try:
        scratch.mkdir()
        yield scratch / path.name
        _flush(scratch / path.name)
        (scratch / path.name).replace(path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        failure = error if isinstance(error, OSError) else OSError(str(error))
        raise OSError(failure.errno or errno.EIO, failure.strerror or str(failure), str(path)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to `path`; a process that ends on the way, however it ends, leaves what was there before."""
    with replaced(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


@contextmanager
def sole(folder: Path) -> Iterator[bool]:
    """Whether no other process is in such a context of this folder; if so, none gets in until this one leaves, or ends.

    The lock is the folder's own: a lock on a file in it would be lost when the file is replaced.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
