"""Files that are there in full or not at all, whatever ends their writer."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a file beside its place, then put it there at one go.

    Args:
        path: where it is to be; whoever reads it finds the old one or the new one.
        content: all of it.
        mode: who may read it, from the first moment on.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    partial.touch(mode=mode)
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.rename(path)
