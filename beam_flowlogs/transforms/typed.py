"""One small step that states an element type where Beam cannot know it."""

from __future__ import annotations

from typing import Any, TypeVar

import apache_beam as beam

T = TypeVar("T")


def typed(elements: beam.PCollection, label: str, element_type: Any) -> beam.PCollection:
    """Return the same elements with a stated type.

    A tagged output has no type of its own, and what crosses a shuffle untyped is pickled; Flink needs keys and values
    told apart.
    """
    return elements | f"Type{label}" >> beam.Map(_same).with_output_types(element_type)


def _same(element: T) -> T:
    return element
