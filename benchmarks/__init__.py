"""What the claims about speed rest on: one command per claim, results in ``results.md``."""
