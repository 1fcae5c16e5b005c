"""Small file systems of one's own, where the tests may mount some."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest


def _run(*command):
    return subprocess.run(command, check=False, capture_output=True, text=True)


@contextmanager
def small_disk(directory, size):
    """Mount an empty disk of a size such as ``8m`` on a directory."""
    directory.mkdir()
    mounted = _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory)
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        # Lazily: a program that is being killed may still hold a file.
        _run("umount", "--lazy", directory)


@contextmanager
def read_only(directory):
    """Make a mounted directory read-only for a while."""
    changed = _run("mount", "-o", "remount,ro", directory)
    if changed.returncode:
        pytest.skip(f"the disk cannot be made read-only: {changed.stderr.strip()}")
    try:
        yield
    finally:
        _run("mount", "-o", "remount,rw", directory)


def fill_disk(directory):
    """Write a file until not one byte more fits."""
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    disk = os.statvfs(directory)
    assert disk.f_bavail == 0
