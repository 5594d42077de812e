"""Beam edge: transforms that wire the pure core modules; no parsing or rendering happens here."""
