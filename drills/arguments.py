"""What the commands of this folder take alike."""

from __future__ import annotations

import argparse


def repetitions(text: str) -> int:
    """How often: at least once, since a drill that never ran keeps every promise.

    Raises:
        argparse.ArgumentTypeError: if it is anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; it should be a whole number of at least 1")
    return int(text)
