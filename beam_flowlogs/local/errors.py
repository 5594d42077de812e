"""What the local stack says when it cannot go on."""

from __future__ import annotations


class LocalStackError(RuntimeError):
    """A part of the local stack cannot be fetched, started or used; the message names it and the cure."""
