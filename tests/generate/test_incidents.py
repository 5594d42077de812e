"""Every incident of truth.json can be found in the written records, by what it says and nothing else."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from beam_flowlogs.fields import TRANSIT_GATEWAY_FORMAT, vpc_format
from beam_flowlogs.generate import ALL_INCIDENTS, GeneratorConfig, Incident, generate
from tests.generate.read_back import read_all

START = 1_767_268_800
NUMBERS = ("srcport", "dstport", "packets", "bytes", "start", "end", "tcp-flags")


class Run:
    """The records of one run with all incidents, and the incidents that its truth tells of."""

    def __init__(self, **arguments: Any) -> None:
        config = GeneratorConfig(start=START, records=40_000, incidents=ALL_INCIDENTS, **arguments)
        objects: dict[str, bytes] = {}
        truth = generate(config, objects.__setitem__)
        self.frame = read_all(objects).with_columns(pl.col(NUMBERS).cast(pl.Int64))
        self.point = "tgw-attachment-id" if config.tgw else "interface-id"
        self.incidents = {note["kind"]: note for note in truth.incidents}

    def of(self, incident: Incident) -> tuple[dict[str, Any], pl.DataFrame]:
        """Return the note of an incident, and all records of its interface."""
        note = self.incidents[incident.value]
        return note, self.frame.filter(pl.col(self.point) == note["interface"])


@pytest.fixture(
    scope="module",
    params=[{"names": vpc_format(5)}, {"names": TRANSIT_GATEWAY_FORMAT, "tgw": True}],
    ids=["vpc", "tgw"],
)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(**request.param)


def during(note: dict[str, Any]) -> pl.Expr:
    return pl.col("end").is_between(note["start"], note["end"] - 1)


def test_a_port_scan_knocks_at_many_ports_of_one_address(run: Run) -> None:
    note, records = run.of(Incident.PORT_SCAN)
    scan = records.filter(pl.col("srcaddr") == note["source"])
    assert scan.height == scan["dstport"].n_unique() == note["records"] == 400
    assert scan.filter(during(note), pl.col("dstaddr") == note["destination"]).height == scan.height
    assert set(scan["tcp-flags"]) == {2}


def test_a_peer_that_stops_leaves_requests_without_replies(run: Run) -> None:
    note, records = run.of(Incident.PEER_STOPS)
    asked = records.filter(pl.col("dstaddr") == note["destination"], pl.col("dstport") == note["port"])
    answered = records.filter(pl.col("srcaddr") == note["destination"], pl.col("srcport") == note["port"])
    assert asked.height + answered.height == note["records"]
    assert set(asked["srcaddr"]) == {note["source"]}
    assert answered.filter(pl.col("end") >= note["start"]).is_empty()
    assert answered.height == asked.filter(pl.col("end") < note["start"]).height == 100
    unanswered = asked.filter(pl.col("start") >= note["start"])
    assert unanswered.height == 100
    assert set(unanswered["tcp-flags"]) == {2}
    assert unanswered["packets"].is_between(1, 3).all()
    assert unanswered["end"].max() < note["end"]
    assert set(unanswered["flow-direction"]) == {"ingress" if run.point.startswith("tgw") else "egress"}


def test_a_burst_of_rejects_comes_from_neighbours_to_one_port(run: Run) -> None:
    note, records = run.of(Incident.REJECT_BURST)
    if "action" in records.columns:
        refused = pl.col("action") == "REJECT"
    else:
        refused = pl.col("packets-lost-blackhole") == pl.col("packets").cast(pl.String)
    burst = records.filter(refused, during(note), pl.col("dstport") == note["port"])
    assert burst.height == note["records"] == 400
    assert set(burst["srcaddr"]) <= set(note["sources"])
    assert set(burst["dstaddr"]) == {note["destination"]}


def test_skipdata_lines_tell_of_records_lost(run: Run) -> None:
    note, records = run.of(Incident.SKIPDATA)
    skipped = records.filter(pl.col("log-status") == "SKIPDATA")
    assert skipped.height == note["records"] == run.frame.filter(pl.col("log-status") == "SKIPDATA").height == 3
    assert (skipped["start"].min(), skipped["end"].max()) == (note["start"], note["end"])
    assert records.filter(pl.col("log-status") == "OK", during(note)).height > 0


def test_a_silent_interface_has_traffic_up_to_a_moment_and_none_after(run: Run) -> None:
    note, records = run.of(Incident.SILENT_INTERFACE)
    before, after = (records.filter(pl.col("end") < note["start"]), records.filter(pl.col("end") >= note["start"]))
    assert set(before["log-status"]) == {"OK"}
    assert set(after["log-status"]) == {"NODATA"}
    assert after.height == note["records"] == 15


def test_a_spike_of_bytes_stands_out(run: Run) -> None:
    note, records = run.of(Incident.BYTES_SPIKE)
    chosen = (pl.col("dstaddr") == note["destination"]) & (pl.col("srcaddr") == note["source"])
    spike = records.filter(chosen, during(note), pl.col("dstport") == note["port"])
    assert spike.height == note["records"] == 40
    assert spike["bytes"].sum() > 100 * records.filter(~chosen)["bytes"].fill_null(0).sum()


def test_lines_without_traffic_have_only_what_belongs_to_the_interface() -> None:
    frame = Run(names=vpc_format(11)).frame
    empty = frame.filter(pl.col("log-status") != "OK")
    assert set(empty["log-status"]) == {"NODATA", "SKIPDATA"}
    of_packets = [
        "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes", "action", "tcp-flags", "type",
        "pkt-srcaddr", "pkt-dstaddr", "pkt-src-aws-service", "pkt-dst-aws-service", "flow-direction", "traffic-path",
        "reject-reason", "encryption-status", "next-hop-interface-id", "next-hop-vpc-id",
    ]  # fmt: skip
    assert empty.select(of_packets).null_count().row(0) == (empty.height,) * len(of_packets)
    of_interface = ["version", "account-id", "interface-id", "start", "end", "log-status", "vpc-id", "region"]
    assert empty.select(of_interface).null_count().row(0) == (0,) * len(of_interface)
    assert set(empty["end"] - empty["start"]) == {59}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("bytes", "end")}, "skipdata needs the field log-status"),
        ({"slots": 1}, "silent-interface needs 2 slots"),
        ({"interfaces": 6}, "silent-interface needs 2 interfaces or more"),
        ({"records": 999}, "needs 1000 records"),
    ],
)
def test_an_incident_without_room_is_refused_by_name_and_left_out_of_all(
    arguments: dict[str, Any], message: str
) -> None:
    incidents = (Incident.SKIPDATA, Incident.SILENT_INTERFACE)
    with pytest.raises(ValueError, match=message):
        GeneratorConfig(start=START, incidents=incidents, **arguments)
    fitting = GeneratorConfig(start=START, **arguments).fitting_incidents()
    assert set(incidents) - set(fitting)
    GeneratorConfig(start=START, incidents=fitting, **arguments)


def test_more_incident_records_than_records_are_refused() -> None:
    config = GeneratorConfig(start=START, records=1000, slots=400, incidents=ALL_INCIDENTS)
    with pytest.raises(ValueError, match="records is 1000: the incidents alone leave 1203"):
        generate(config, lambda key, body: None)
