"""What `/metrics` serves is what docs/metrics.md says, and unknown values are absent."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from observer.board import Board
from observer.config import Config
from observer.status.metrics import METRICS, exposition, registry
from observer.status.report import Reporter
from tests.board_scene import INSTANCES, NOW, die, running_board

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"\| `(observer_\w+)` \| (counter|gauge) \| ([^|]*) \| ([^|]*) \|")


def samples(board: Board) -> dict[tuple[str, tuple[str, ...]], float]:
    reporter = Reporter(board, Config())
    text = exposition(registry(lambda: reporter.report(NOW))).decode()
    return {
        (sample.name, tuple(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_document_lists_exactly_the_metrics_that_are_declared() -> None:
    documented = {
        match[1]: (match[2], match[3].strip(), match[4].strip()) for match in map(ROW.match, DOCS.read_text().splitlines()) if match
    }
    declared = {
        metric.full_name: ("counter" if metric.counter else "gauge", ", ".join(metric.labels) or "–", metric.help) for metric in METRICS
    }
    assert documented == declared


def test_the_alert_examples_use_only_metrics_that_exist() -> None:
    names = {metric.full_name for metric in METRICS}
    assert set(re.findall(r"observer_\w+", DOCS.read_text())) <= names


def test_every_metric_is_served_by_a_running_service() -> None:
    served = {name for name, _ in samples(running_board())}
    assert served == {metric.full_name for metric in METRICS}


def test_names_carry_their_unit_and_helps_are_sentences() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name), metric.name
        assert metric.help.endswith("."), metric.name
        assert not metric.name.endswith("_total"), metric.name
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_values_are_those_of_the_board() -> None:
    found = samples(running_board())
    assert found["observer_records_received_total", ("scalp",)] == 100
    assert found["observer_records_committed_total", ("scalp",)] == 90
    assert found["observer_records_in_flight", ("scalp",)] == 8
    assert found["observer_refusals_total", ("duplicate", "guard", "scalp")] == 3
    assert found["observer_durable_seconds", ("0.99",)] == 0.06
    assert found["observer_role_state", ("writer", "healthy")] == 1 and found["observer_role_state", ("writer", "stuck")] == 0
    assert found["observer_broker_state", ("collector", "connected")] == 1
    assert found["observer_check_status", ("archive",)] == 0


def test_what_is_unknown_is_absent_and_counters_stay() -> None:
    board = running_board()
    die(board, "collector")
    die(board, "writer")
    found = samples(board)
    names = {name for name, _ in found}
    for gone in ("observer_subscriptions_confirmed", "observer_market_open", "observer_archive_ok", "observer_file_bytes"):
        assert gone not in names
    assert ("observer_role_heartbeat_age_seconds", ("writer",)) not in found
    assert found["observer_role_up", ("writer",)] == 0
    assert found["observer_records_received_total", ("scalp",)] == 100


def test_a_service_that_has_just_started_can_be_scraped() -> None:
    assert samples(Board(INSTANCES))["observer_records_received_total", ("scalp",)] == 0
