"""Which options Beam knows, so that a mistyped one is refused: Beam itself would leave it out without a word."""

from __future__ import annotations

import difflib
from argparse import Action, ArgumentParser
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

DEFAULT_RUNNER = "FnApiRunner"
"""Runs in this process. Beam's own default would first download a runner."""

_LOCAL_RUNNERS = {"fnapirunner", "directrunner", "bundlebaseddirectrunner", "switchingdirectrunner", "prismrunner"}
_FLINK_RUNNERS = {"flinkrunner", "portablerunner"}

# What only Flink's job server, which is Java, knows: FlinkPipelineOptions as of 2.77, in Python's spelling.
_JOB_SERVER_OPTIONS = frozenset(
    "--allow_non_restored_state --attached_mode --auto_balance_write_files_sharding_enabled "
    "--auto_watermark_interval --checkpoint_timeout_millis --checkpointing_interval --checkpointing_mode "
    "--disable_metrics --enable_stable_input_drain --execution_mode_for_batch --execution_retry_delay "
    "--externalized_checkpoints_enabled --fail_on_checkpointing_errors --faster_copy "
    "--file_input_split_max_size_mb --files_to_stage --finish_bundle_before_checkpointing "
    "--flink_conf_dir --force_slot_sharing_group --force_unaligned_checkpoint_enabled "
    "--job_check_interval_in_secs --latency_tracking_interval --max_bundle_size --max_bundle_time_mills "
    "--min_pause_between_checkpoints --num_concurrent_checkpoints --number_of_execution_retries "
    "--object_reuse --operator_chaining --re_iterable_group_by_key_result --report_checkpoint_duration "
    "--retain_externalized_checkpoints_on_cancellation --savepoint_path --shutdown_sources_after_idle_ms "
    "--state_backend --state_backend_storage_path --tolerable_checkpoint_failure_number "
    "--unaligned_checkpoint_enabled --use_data_stream_for_batch".split()
)


def runner_of(beam_args: Sequence[str]) -> str:
    """Return the name of the runner that Beam's arguments name, else of the default one."""
    return PipelineOptions(list(beam_args)).view_as(StandardOptions).runner or DEFAULT_RUNNER


def is_local(runner: str) -> bool:
    """Tell whether a runner's workers run on this machine, in this folder."""
    return runner.rpartition(".")[2].lower() in _LOCAL_RUNNERS


def take_beam_args(arguments: Iterable[str], own: Collection[str], runner: str = "") -> tuple[list[str], list[str]]:
    """Split arguments into the others and Beam's own, each in their order; ``own`` are the options of the command.

    ``runner`` is the one that the command itself chooses. Raises ValueError for an option that nobody knows, and for
    one whose value is none.
    """
    known = _options()
    others: list[str] = []
    beam: list[str] = []
    server: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, has_value, _ = argument.partition("=")
        if not argument.startswith("--") or argument == "--" or name in own:
            others.append(argument)
        elif name in known:
            beam.append(argument)
            if not has_value and known[name].nargs != 0:
                beam.extend(islice(rest, 1))
        elif name in _JOB_SERVER_OPTIONS:
            beam.append(argument)
            server.append(name)
        else:
            raise ValueError(_unknown(name, {*own, *known, *_JOB_SERVER_OPTIONS}))
    _check_values(beam)
    runner = runner or runner_of(beam)
    if server and runner.rpartition(".")[2].lower() not in _FLINK_RUNNERS:
        raise ValueError(
            f"{server[0]} is an option of Flink's job server, and {runner} would not heed it: leave it out, or run on "
            "Flink (--runner=FlinkRunner)"
        )
    return others, beam


def _options() -> dict[str, Action]:
    """Return the options of all classes that Beam has loaded, by name."""
    found: dict[str, Action] = {}

    def look(parser: ArgumentParser) -> None:
        found.update(parser._option_string_actions)

    PipelineOptions([]).get_all_options(add_extra_args_fn=look)
    return found


def _check_values(beam_args: list[str]) -> None:
    def refuse(message: str) -> NoReturn:
        raise ValueError(f"Beam does not take this: {message}")

    def watch(parser: ArgumentParser) -> None:
        parser.error = refuse  # type: ignore[method-assign]

    PipelineOptions(beam_args).get_all_options(add_extra_args_fn=watch)


def _unknown(name: str, known: Iterable[str]) -> str:
    alike = {option.replace("_", "-"): option for option in known}
    nearest = difflib.get_close_matches(name.replace("_", "-"), alike, n=1)
    hint = f"did you mean {alike[nearest[0]]}?" if nearest else "see --help; the others have to be options of Beam"
    return f"no such option: {name}; {hint}"
