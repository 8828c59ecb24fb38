"""HAProxy's log lines and statistics, as HAProxy 2.8 writes them."""

from __future__ import annotations

import socket
import time

import pytest

from benchmarks.reliability.haproxy import (
    LogReceiver,
    count_retried,
    count_unanswered,
    parse_log_line,
    running_pid,
    servers_up,
)

PLAIN = (
    "<134>Nov 23 13:02:10 haproxy[25961]: 127.0.0.1:40906 [23/Nov/2026:13:02:05.123] http_frontend "
    "http-reliability/SERVE_REPLICA_reliability-instance-ab12 0/0/0/11/5012 200 61234 - - ---- "
    '16/16/15/7/0 0/0 "POST /v1/chat/completions HTTP/1.1"'
)
MOVED = PLAIN.replace("16/16/15/7/0", "16/16/15/7/+1")
AGAIN = PLAIN.replace("16/16/15/7/0", "16/16/15/7/2")
REFUSED = (
    "<134>Nov 23 13:02:10 haproxy[25961]: 127.0.0.1:40906 [23/Nov/2026:13:02:05.123] http_frontend "
    "http-reliability/<NOSRV> 0/-1/-1/-1/0 503 250 - - SC-- 16/16/0/0/+3 0/0 "
    '"POST /v1/chat/completions HTTP/1.1"'
)
HEALTH = (
    "<133>Nov 23 13:02:10 haproxy[25961]: Health check for server a/b succeeded, reason: Layer7 "
    "check passed, code: 200, check duration: 2ms, status: 2/2 UP."
)


def test_a_line_tells_the_server_the_times_and_the_retries() -> None:
    line = parse_log_line(PLAIN, end=100.0)
    assert line is not None
    assert line.server == "SERVE_REPLICA_reliability-instance-ab12"
    assert (line.backend, line.status, line.state) == ("http-reliability", 200, "----")
    assert line.begin == pytest.approx(100.0 - 5.012)
    assert line.path == "/v1/chat/completions"
    assert not line.retried


@pytest.mark.parametrize(
    ("text", "retries", "redispatched", "retried"),
    [
        (PLAIN, 0, False, False),
        (MOVED, 1, True, True),
        (AGAIN, 2, False, True),
        (REFUSED, 3, True, False),  # tried three times and answered by nobody
    ],
)
def test_retries(text: str, retries: int, redispatched: bool, retried: bool) -> None:
    line = parse_log_line(text, end=0.0)
    assert line is not None
    assert (line.retries, line.redispatched, line.retried) == (retries, redispatched, retried)


def test_other_lines_are_none() -> None:
    assert parse_log_line(HEALTH, end=0.0) is None


def test_only_chat_completions_count() -> None:
    texts = [PLAIN, MOVED, MOVED.replace("/v1/chat/completions", "/v1/models")]
    lines = [line for text in texts if (line := parse_log_line(text, end=0.0))]
    assert len(lines) == 3
    assert count_retried(lines) == 1


def test_unanswered_requests_by_who_ended_them() -> None:
    texts = [PLAIN, REFUSED, REFUSED, PLAIN.replace(" 200 61234", " 500 120")]
    lines = [line for text in texts if (line := parse_log_line(text, end=0.0))]
    assert count_unanswered(lines) == {"503 SC-- from HAProxy": 2, "500 ---- from an instance": 1}


def test_the_receiver_keeps_what_is_sent_to_its_target() -> None:
    with LogReceiver() as log:
        host, port = log.target.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for text in (HEALTH, PLAIN):
                sender.sendto(text.encode(), (host, int(port)))
        limit = time.monotonic() + 5
        while not log.lines and time.monotonic() < limit:
            time.sleep(0.01)
    [line] = log.lines
    assert log.since(line.begin) == (line,)
    assert log.since(line.end) == ()


STAT = """# pxname,svname,qcur,scur,status,bck,wretr,wredis
http_frontend,FRONTEND,,3,OPEN,,,
http-app,SERVE_REPLICA_a,0,2,UP,0,0,0
http-app,SERVE_REPLICA_b,0,2,DOWN,0,0,0
http-app,SERVE_REPLICA_c,0,2,UP 1/2,0,0,0
http-app,SERVE_REPLICA_d,0,2,DOWN 1/2,0,0,0
http-app,SERVE_REPLICA_e,0,2,no check,0,0,0
http-app,SERVE_PROXY,0,0,MAINT,1,0,0
http-app,SERVE_PROXY_2,0,0,UP,1,0,0
http-app,BACKEND,0,4,UP,,0,0
rayserve_successor,successor,0,0,no check,0,0,0
"""


def test_servers_up_are_those_that_take_requests() -> None:
    assert servers_up(STAT) == {"SERVE_REPLICA_a", "SERVE_REPLICA_c", "SERVE_REPLICA_e"}


def test_running_pid() -> None:
    assert running_pid("Name: HAProxy\nVersion: 2.8\nPid: 4711\nUptime: 0\n") == 4711
    with pytest.raises(ValueError, match="no Pid"):
        running_pid("")
