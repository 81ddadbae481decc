"""How the command line's log lines look, whoever writes them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli._command import environment

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


def lines(tmp_path: Path, style: str | None, source: str, level: str = "INFO") -> list[str]:
    """What a process that logs in this style writes to standard output."""
    program = f"import logging, structlog\nfrom docket.cli._logging import set_up_logging\nset_up_logging({level!r}, {style!r})\n{source}"
    written = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert written.stderr == ""
    return written.stdout.splitlines()


def record(tmp_path: Path, source: str) -> dict[str, Any]:
    [line] = lines(tmp_path, "json", source)
    return json.loads(line)


def test_a_plain_line_tells_time_level_logger_and_message(tmp_path: Path):
    [line] = lines(tmp_path, "plain", "logging.getLogger('docket.worker').info('hello %s', 'you', extra={'docket.key': 'k'})")

    assert re.fullmatch(rf"\[{TIME}\] INFO - docket\.worker - hello you", line)


def test_a_structlog_event_is_a_plain_line_with_its_fields(tmp_path: Path):
    [line] = lines(tmp_path, "plain", "structlog.get_logger('mine').warning('hello %s', 'you', name='Jane', n=1)")

    assert re.fullmatch(rf"\[{TIME}\] WARNING - mine - hello you name='Jane' n=1", line)


def test_without_a_terminal_lines_are_plain(tmp_path: Path):
    [line] = lines(tmp_path, None, "logging.getLogger('mine').info('hello')")

    assert re.fullmatch(rf"\[{TIME}\] INFO - mine - hello", line)


def test_a_rich_line_tells_level_message_and_fields(tmp_path: Path):
    [line] = lines(tmp_path, "rich", "structlog.get_logger('mine').info('hello [you]', n=1)")

    assert re.search(r"INFO +hello \[you\] n=1", line)


def test_a_json_line_is_one_object_with_every_extra(tmp_path: Path):
    written = record(tmp_path, "logging.getLogger('docket.worker').info('hello %s', 'you', extra={'docket.key': 'k', 'when': {1}})")

    assert re.fullmatch(TIME, written.pop("asctime"))
    assert written == {"name": "docket.worker", "levelname": "INFO", "message": "hello you", "docket.key": "k", "when": "{1}"}


def test_a_field_cannot_hide_what_json_says_itself(tmp_path: Path):
    written = record(tmp_path, "structlog.get_logger('mine').info('hello', name='Jane', n=1)")

    assert written["name"] == "mine"
    assert written["name_"] == "Jane"
    assert written["n"] == 1


@pytest.mark.parametrize("logger", ["logging.getLogger('mine')", "structlog.get_logger('mine')"])
def test_an_exception_is_in_the_json_line(logger: str, tmp_path: Path):
    written = record(tmp_path, f"try: 1 / 0\nexcept ZeroDivisionError: {logger}.exception('oh')")

    assert written["levelname"] == "ERROR"
    assert written["message"] == "oh"
    assert written["exc_info"].startswith("Traceback")
    assert written["exc_info"].endswith("ZeroDivisionError: division by zero")


def test_a_stack_is_in_the_json_line(tmp_path: Path):
    written = record(tmp_path, "structlog.get_logger('mine').info('here', stack_info=True)")

    assert written["stack_info"].startswith("Stack (most recent call last)")


def test_context_variables_of_structlog_are_fields(tmp_path: Path):
    written = record(tmp_path, "structlog.contextvars.bind_contextvars(request='r')\nstructlog.get_logger('mine').info('hello')")

    assert written["request"] == "r"


def test_lines_below_the_level_are_not_written(tmp_path: Path):
    source = "logging.getLogger('a').info('low'); structlog.get_logger('b').info('low'); structlog.get_logger('c').warning('high')"

    [line] = lines(tmp_path, "plain", source, level="WARNING")

    assert line.endswith("WARNING - c - high")
