"""Beam programs: ``python -m pipelines.drain`` and friends take every Beam option."""
