"""Output files: each appears whole or not at all, and nothing is left behind by a failure."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from convkit.diagnostics import ConvkitError, Location, error

Content = bytes | memoryview


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make `folder` (and its parents) before long work begins; on an error take back what was made.

    Raises ConvkitError "output-not-writable" if no file could be written there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as refused:
        _remove(made)
        raise not_writable(folder, refused) from refused
    try:
        yield
    except BaseException:
        _remove(made)
        raise


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return  # somebody else put something there


def not_writable(folder: Path, refused: OSError) -> ConvkitError:
    """The error for a folder in which the system would not write."""
    reason = (refused.strerror or str(refused)).lower()
    return error(
        "output-not-writable",
        f"cannot write there: {reason}",
        location=Location(file=str(folder)),
        help="choose another folder with -o DIR",
    )


def write_all(folder: Path, contents: Mapping[str, Content]) -> None:
    """Write every file beside its final name, then rename all: a reader sees old or new, never half.

    Raises ConvkitError "output-not-writable"; then no file of `contents` was replaced by a part.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            staged.append((_stage(folder, content), folder / name))
        for temporary, final in staged:
            os.replace(temporary, final)
    except OSError as refused:
        raise not_writable(folder, refused) from refused
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def _stage(folder: Path, content: Content) -> Path:
    """A finished temporary file with `content`, with the permissions that a new file gets here."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".convkit-")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
