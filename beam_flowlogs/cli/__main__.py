"""`python -m beam_flowlogs.cli`: the same as `flowlogs`."""

from beam_flowlogs.cli import main

main()
