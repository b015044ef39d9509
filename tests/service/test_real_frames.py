"""Frames as KIS really sent them, through a real WebSocket and the whole service, compared field by field with the archive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import observer.model
from tests.bench.sender import Broker, websocket_frame
from tests.service.stack import Process, configuration, free_port

FRAMES = (Path(__file__).parent.parent / "data/frames.txt").read_text().splitlines()
REAL = [line for line in FRAMES if line.startswith("0|")][:4]  # those behind them are constructed
FIELDS: dict[str, list[tuple[str, str, str]]] = json.loads((Path(observer.model.__file__).parent / "kis_fields.json").read_text())


def records_of(frame: str) -> Iterator[tuple[str, list[str]]]:
    """TR and field texts of each record, cut the plain way."""
    _, tr, count, payload = frame.split("|", 3)
    fields = payload.split("^")
    width = len(fields) // int(count)
    for start in range(0, len(fields), width):
        yield tr, fields[start : start + width]


def expected(tr: str, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    """``obs`` and ``extra`` as the data contract says them, written down anew."""
    obs: dict[str, Any] = {}
    for (name, _, kind), text in zip(FIELDS[tr], texts, strict=False):
        if not text:
            obs[name.lower()] = None
        else:
            obs[name.lower()] = text if kind == "string" else int(text) if kind == "integer" else float(text)
    return obs, texts[len(FIELDS[tr]) :]


def _json_type(value: object) -> str:
    """KIS's 277750 stays 277750 where decimals are allowed: JSON has one kind of number."""
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.fixture
def archived(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """The scalp lines of an archive that received every real frame."""
    broker = Broker()
    symbols = sorted({texts[0] for frame in REAL for _, texts in records_of(frame)})
    trs = ["H0STASP0", "H0STCNT0"]
    config = configuration(
        rest=f"http://127.0.0.1:{broker.rest.server_address[1]}", ws=f"ws://127.0.0.1:{broker.listening.getsockname()[1]}",
        root=tmp_path / "archive", listen=f"127.0.0.1:{free_port()}", symbols=json.dumps(symbols), trs=json.dumps(trs),
        roll="60s", swing="1h", heartbeat="5s", stop="10s",
    )  # fmt: skip
    (tmp_path / "observer.toml").write_text(config)
    environ = {"KIS_APP_KEY": "k", "KIS_APP_SECRET": "s", "CACHE_DIRECTORY": str(tmp_path / "c"), "RUNTIME_DIRECTORY": str(tmp_path / "r")}
    service = Process("service", ["-m", "observer", "--config", "observer.toml", "run"], tmp_path, environ)
    try:
        connection = broker.accept((tr, symbol) for tr in trs for symbol in symbols)
        for frame in REAL:
            connection.sendall(websocket_frame(frame.encode()))
        count = sum(1 for frame in REAL for _ in records_of(frame))
        read = [dict[str, Any]()]

        def all_there() -> bool:
            files = (tmp_path / "archive").glob("scalp/*/*.jsonl")
            read[:] = [json.loads(line) for path in files for line in path.read_text().splitlines()]
            return len(read) >= count

        service.wait_for(all_there, 15, f"{count} records on the archive")
        assert service.stop() == 0
        yield sorted(read, key=lambda record: int(record["seq"]))
        connection.close()
    finally:
        service.kill()
        broker.close()


def test_every_real_frame_is_on_the_archive_with_every_field_right(archived: list[dict[str, Any]]) -> None:
    sent = [record for frame in REAL for record in records_of(frame)]
    assert [(record["tr"], record["symbol"]) for record in archived] == [(tr, texts[0]) for tr, texts in sent]
    for record, (tr, texts) in zip(archived, sent, strict=True):
        obs, extra = expected(tr, texts)
        assert list(record["obs"].items()) == list(obs.items()), "names, values, types and order"
        assert [_json_type(value) for value in record["obs"].values()] == [_json_type(value) for value in obs.values()]
        assert record["extra"] == extra
        # The book carries no date: its time is taken for today's, so only the trades show how old they are.
        assert tr != "H0STCNT0" or "date" in record["quality"], "an old date is a flag and no reason to refuse"


def test_a_field_that_did_not_come_is_absent_and_one_that_came_empty_is_null(archived: list[dict[str, Any]]) -> None:
    widths = {len(record["obs"]) + len(record["extra"]) for record in archived if record["tr"] == "H0STCNT0"}
    assert widths == {46, 47}, "the layouts before and after 2026-09-14"
    before = next(record for record in archived if record["tr"] == "H0STCNT0" and len(record["obs"]) == 46)
    assert "market_cls_code" not in before["obs"]
    assert before["obs"]["mrkt_trtm_cls_code"] is None
