"""How a job runs on Flink, as the arguments that Beam takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FlinkOptions:
    """Where a job is handed in and how it runs.

    ``job_endpoint`` is Beam's job server for Flink. ``worker_pool`` starts the Python workers (empty: Beam's default,
    a container). ``job_name`` tells the job from others, and is how it is found again. A checkpoint is made every
    ``checkpoint_s`` seconds; ``savepoint`` is one to go on from.
    """

    job_endpoint: str
    worker_pool: str = ""
    job_name: str = "flowlogs"
    parallelism: int = 2
    checkpoint_s: float = 10
    savepoint: str = ""

    def __post_init__(self) -> None:
        if not self.job_endpoint:
            raise ValueError(
                "no Flink to run on: name Beam's job server for it with --job-endpoint (on this machine: `flowlogs "
                "local up --flink`), or repeat drains without Flink with --local"
            )
        for name in ("parallelism", "checkpoint_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be more than 0")

    def beam_args(self) -> list[str]:
        """Return Beam's arguments for this."""
        arguments = [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            f"--job_name={self.job_name}",
            f"--parallelism={self.parallelism}",
            f"--checkpointing_interval={round(self.checkpoint_s * 1000)}",
            # Otherwise a checkpoint may fall into a bundle, and jobs were seen to start without anything flowing.
            "--finish_bundle_before_checkpointing",
            # What a step gives goes on at the end of its bundle: soon, for freshness.
            "--max_bundle_time_mills=300",
            "--max_bundle_size=500",
        ]
        if self.worker_pool:
            arguments += ["--environment_type=EXTERNAL", f"--environment_config={self.worker_pool}"]
        if self.savepoint:
            # Flink tells steps apart by their place among the others as well: with another parallelism or another
            # step, some of the state finds no owner. Whatever it held is delivered again, and changes nothing twice.
            arguments += [f"--savepoint_path={self.savepoint}", "--allow_non_restored_state"]
        return arguments
