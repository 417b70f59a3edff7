"""Shared by all tests: where the optional corpus of real models lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder with facts and real models; tests that need it skip by name where it is absent."""
    return Path(os.environ.get("CONVKIT_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no corpus of real models at {folder} (set CONVKIT_SHARED)")
    return folder
