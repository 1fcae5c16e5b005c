"""Where a database file is, and where it may be: on a disk of this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import ConnectionFailed

__all__ = ["path_of_url", "refuse_network_file_system"]

#: File systems on which SQLite's locks and shared memory cannot be relied on
#: (https://www.sqlite.org/wal.html, "All processes using a database must be on the same host").
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip
#: Where Linux lists what is mounted; other systems are not checked.
MOUNTS = Path("/proc/self/mountinfo")


def path_of_url(url: str) -> str:
    """Return the file a URL names: ``sqlite:///relative`` or ``sqlite:////absolute``.

    Raises:
        ValueError: If it is no such URL.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "sqlite" or parts.netloc or len(path) < 2:
        raise ValueError(
            f"{url!r} is not an SQLite URL. Write sqlite:///name.db for a file in the current "
            "folder, sqlite:////folder/name.db for an absolute path."
        )
    return path[1:]


def refuse_network_file_system(path: Path, mounts: Path = MOUNTS) -> None:
    """Check that ``path`` is on a local file system.

    Raises:
        ConnectionFailed: If it is on a network file system.
    """
    kind = file_system_of(path, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConnectionFailed(
            f"{path} is on a network file system ({kind}), where SQLite's locks cannot be trusted "
            "and messages could be lost. Put the file on a local disk, or use a broker with a "
            "server when several machines share the work."
        )


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system that holds ``path``; None where that is unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: tuple[int, str | None] = (-1, None)
    for line in lines:
        fields, _, rest = line.partition(" - ")
        mount_point = Path(_unescape(fields.split()[4]))
        if path.is_relative_to(mount_point) and len(mount_point.parts) >= found[0]:
            # The last of several mounts on one point hides the others.
            found = (len(mount_point.parts), rest.split()[0])
    return found[1]


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of white space in paths."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text
