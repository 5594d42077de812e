"""What Flink's REST interface tells of a job, and the ways to stop one."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException
from typing import Any, NamedTuple

_TIMEOUT_S = 30
_POLL_S = 0.5
_DISTRIBUTION = re.compile(r"DistributionResult\{sum=(-?\d+), count=(\d+), min=(-?\d+), max=(-?\d+)\}")
_ENDED = ("CANCELED", "FAILED", "FINISHED")
_STOPPED = ("RUNNING", "CANCELLING", "CANCELED", "FINISHED")
"""States of a job whose workers are told to end and that will not start again: RUNNING, if with a savepoint."""


class FlinkError(RuntimeError):
    """Flink does not answer, does not know the job, or refuses; the message says which and what to do."""


class Job(NamedTuple):
    """A job of Flink: its id, name, state in Flink's words, and the time of its start in ms."""

    id: str
    name: str
    state: str
    started_ms: int

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self.state in _ENDED


class JobAt(NamedTuple):
    """A job by its name, and the address of the Flink that runs it."""

    flink_url: str
    name: str

    def is_stopped(self, timeout_s: float) -> bool:
        """Tell a worker that has to end whether its job does so too, for good, rather than to start again.

        Not known counts as no.
        """
        try:
            jobs = FlinkRest(self.flink_url, timeout_s=timeout_s).jobs(self.name)
        except (FlinkError, LookupError, TypeError):
            return False
        return bool(jobs) and jobs[0].state in _STOPPED


class Checkpoints(NamedTuple):
    """The checkpoints of a job by fate, and of the latest complete one: age (s), duration (ms), bytes and path."""

    completed: int
    failed: int
    latest_age_s: float
    latest_ms: int
    latest_bytes: int
    latest_path: str


class Distribution(NamedTuple):
    """A number that was taken some times: the sum of all, how often, the least and the most."""

    total: int
    times: int
    least: int
    most: int

    def plus(self, other: Distribution | None) -> Distribution:
        """Return both together."""
        if other is None:
            return self
        return Distribution(
            self.total + other.total, self.times + other.times, min(self.least, other.least), max(self.most, other.most)
        )


class Metrics(NamedTuple):
    """Beam's metrics of a job by name, since it was started or restarted last."""

    counters: dict[str, int]
    distributions: dict[str, Distribution]


class FlinkRest:
    """Flink's REST interface at ``url``, such as ``http://jobmanager:8081``."""

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    def jobs(self, name: str) -> list[Job]:
        """Return the jobs of a name that Flink still knows, the latest first."""
        found = [
            Job(job["jid"], job["name"], job["state"], job["start-time"])
            for job in self._request("/jobs/overview")["jobs"]
            if job["name"] == name
        ]
        return sorted(found, key=lambda job: job.started_ms, reverse=True)

    def running(self, name: str) -> Job:
        """Return the job of a name that is not over. Raises FlinkError when there is none, or more than one."""
        found = [job for job in self.jobs(name) if not job.ended]
        if len(found) != 1:
            what = "no job" if not found else f"{len(found)} jobs"
            raise FlinkError(f"{what} of the name {name!r} at {self._url}: look at the job names there (--job-name)")
        return found[0]

    def wait_until_running(self, name: str, seconds: float, before: Iterable[Job] = ()) -> Job:
        """Return the job of a name, other than those ``before``, once all its tasks run. Raises FlinkError."""
        known = {job.id for job in before}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for job in self.jobs(name):
                if job.id in known:
                    continue
                if job.ended:
                    causes = "; ".join(self.exceptions(job.id)) or f"see {self._url}"
                    raise FlinkError(f"the job {name!r} has not started, it is {job.state}: {causes}")
                if self._all_tasks_run(job.id):
                    return job
            time.sleep(_POLL_S)
        raise FlinkError(
            f"the job {name!r} does not run after {seconds:.0f} s: see {self._url} for what it waits for (free slots, "
            "the worker pool)"
        )

    def checkpoints(self, job_id: str) -> Checkpoints:
        """Return how the checkpoints of a job go."""
        found = self._request(f"/jobs/{job_id}/checkpoints")
        latest = (found.get("latest") or {}).get("completed") or {}
        counts = found.get("counts") or {}
        acknowledged_ms = latest.get("latest_ack_timestamp", 0)
        return Checkpoints(
            counts.get("completed", 0),
            counts.get("failed", 0),
            time.time() - acknowledged_ms / 1000 if acknowledged_ms else float("inf"),
            latest.get("end_to_end_duration", 0),
            latest.get("state_size", 0),
            latest.get("external_path", ""),
        )

    def exceptions(self, job_id: str) -> list[str]:
        """Return the latest failures of a job, each in one line."""
        history = self._request(f"/jobs/{job_id}/exceptions").get("exceptionHistory", {})
        return [_cause(entry["stacktrace"]) for entry in history.get("entries", ())]

    def metrics(self, job_id: str, part_of_name: str) -> Metrics:
        """Return Beam's metrics of a job by their own names, added up over subtasks, for those that hold a text."""
        counters: dict[str, int] = {}
        distributions: dict[str, Distribution] = {}
        for vertex in self._request(f"/jobs/{job_id}")["vertices"]:
            path = f"/jobs/{job_id}/vertices/{vertex['id']}/metrics"
            names = [found["id"] for found in self._request(path) if part_of_name in found["id"]]
            for begin in range(0, len(names), 20):  # each is a hundred characters, and all are in the URL
                query = urllib.parse.quote(",".join(names[begin : begin + 20]))
                for found in self._request(f"{path}?get={query}"):
                    name = found["id"].rpartition(part_of_name)[2].strip(".:")
                    told = _DISTRIBUTION.fullmatch(found["value"])
                    if told:
                        found_here = Distribution(*map(int, told.groups()))
                        if found_here.times:
                            distributions[name] = found_here.plus(distributions.get(name))
                    else:
                        counters[name] = counters.get(name, 0) + int(found["value"])
        return Metrics(counters, distributions)

    def cancel(self, job_id: str) -> None:
        """End a job at once, and wait until it is over; what is not acknowledged is delivered again."""
        self._request(f"/jobs/{job_id}?mode=cancel", method="PATCH")
        self._wait_for_end(job_id)

    def stop(self, job_id: str, directory: str = "", timeout_s: float = 600) -> str:
        """End a job with a savepoint and return its path. ``directory``: default the one that Flink is set up with."""
        body: dict[str, Any] = {"drain": False}  # draining never ends with an endless splittable DoFn
        if directory:
            body["targetDirectory"] = directory
        trigger = self._request(f"/jobs/{job_id}/stop", body)["request-id"]
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self._request(f"/jobs/{job_id}/savepoints/{trigger}")
            if found["status"]["id"] == "COMPLETED":
                operation = found["operation"]
                if "location" not in operation:
                    raise FlinkError(f"no savepoint was made: {_first_line(operation.get('failure-cause', {}))}")
                self._wait_for_end(job_id)
                return str(operation["location"])
            time.sleep(_POLL_S)
        raise FlinkError(f"no savepoint was made within {timeout_s:.0f} s: see {self._url} for what holds it up")

    def _all_tasks_run(self, job_id: str) -> bool:
        job = self._request(f"/jobs/{job_id}")
        return job["state"] == "RUNNING" and all(vertex["status"] == "RUNNING" for vertex in job["vertices"])

    def _wait_for_end(self, job_id: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self._request(f"/jobs/{job_id}")["state"] not in _ENDED:
            if time.monotonic() > deadline:
                raise FlinkError(f"the job {job_id} does not end within {seconds:.0f} s: see {self._url}")
            time.sleep(_POLL_S)

    def _request(self, path: str, body: dict[str, Any] | None = None, *, method: str = "") -> Any:
        request = urllib.request.Request(  # noqa: S310 - the user's own Flink
            self._url + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method or ("GET" if body is None else "POST"),
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310 - as above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise FlinkError(f"Flink at {self._url} refuses {path}: {error.code} {_errors(error)}") from error
        except (OSError, HTTPException, ValueError) as error:  # ValueError: no JSON, but a proxy's page for instance
            raise FlinkError(
                f"Flink does not answer at {self._url} ({str(error).strip()}): check --flink-url, or start one on this "
                "machine with `flowlogs local up --flink`"
            ) from error


def _errors(error: urllib.error.HTTPError) -> str:
    try:
        lines = " ".join(json.load(error)["errors"]).strip().splitlines()
    except (OSError, HTTPException, ValueError, LookupError, TypeError):  # it is a proxy's, for instance
        lines = []
    return lines[0] if lines else error.reason


def _cause(stacktrace: str) -> str:
    """Return the innermost cause in one line: the last one before its stack, which is the message of Python's too."""
    innermost = stacktrace.rpartition("Caused by: ")[2].partition("\n\tat ")[0]
    lines = [line for line in innermost.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "?"


def _first_line(cause: dict[str, Any]) -> str:
    return str(cause.get("stack-trace", cause.get("class", "?"))).strip().splitlines()[0]
