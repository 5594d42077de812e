"""Beam program: index the flow logs that lie below S3 prefixes.

    python -m pipelines.backfill s3://BUCKET/PREFIX --dead-letter s3://BUCKET/PREFIX --runner=FlinkRunner ...

The same as ``flowlogs backfill``; every option of Beam passes through. The wiring is ``beam_flowlogs.run.backfill``.
"""

from beam_flowlogs.cli import run_alone
from beam_flowlogs.cli.backfill import backfill

if __name__ == "__main__":
    run_alone(backfill)
