"""The error of the command line: one line for the person, an exit code for the script."""

from __future__ import annotations


class Failure(Exception):
    """What went wrong and, where it helps, what to do. 1: the command failed; 2: it was asked wrongly."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
