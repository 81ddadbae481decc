"""The README tells the truth: its Python runs as it stands, on both backends, and what its commands name is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """This gives the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """This runs a command as a reader would, with docket found and warnings taken seriously."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **environment}
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=50)


def test_the_minute_runs_as_it_stands(tmp_path: Path, url: str):
    program = tmp_path / "minute.py"
    tests = "asyncio.run(test_a_countdown_goes_on())"
    program.write_text("\n".join([*blocks("python"), tests]).replace("memory://orders", url))

    done = run(sys.executable, str(program))

    assert done.returncode == 0, done.stderr
    assert done.stdout == "Welcome, Jane!\nthe countdown ended at 0\n"


def test_the_first_two_blocks_are_the_two_commands():
    assert blocks("sh")[:2] == ["pip install .\npython examples/quickstart.py\n", "pip install nox\nnox\n"]


def test_the_quickstart_runs_on_both_backends(url: str):
    done = run(sys.executable, "examples/quickstart.py", DOCKET_URL=url)

    assert done.returncode == 0, done.stderr
    assert "greet: hello, Ada" in done.stdout
    assert done.stdout.count("heartbeat: still here") == 4
    assert "third time lucky" in done.stdout


@pytest.mark.only_server("two processes share no memory")
def test_the_worker_and_the_other_terminal_meet(url: str, tmp_path: Path):
    worker_command, script_command = blocks("sh")[3].splitlines()[1], blocks("sh")[4].splitlines()[1]
    assert worker_command.startswith("docket ")
    assert script_command.startswith("python ")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DOCKET_URL": url}
    log = tmp_path / "worker.log"

    with log.open("w") as sink:
        command = [sys.executable, "-m", *shlex.split(worker_command)]
        worker = subprocess.Popen(command, cwd=ROOT / "examples", env=environment, stdout=sink, stderr=sink)
    try:
        done = subprocess.run(
            [sys.executable, *shlex.split(script_command)[1:]], cwd=ROOT / "examples", env=environment, capture_output=True, text=True, check=False, timeout=50
        )
    finally:
        worker.terminate()
        status = worker.wait(20)

    assert done.returncode == 0, done.stderr
    assert "It gave True" in done.stdout
    assert status == 0, log.read_text()
    assert "send_welcome_email" in log.read_text()


def test_every_figure_is_one_of_the_performance_page():
    section = README.partition("\n## How fast\n")[2].partition("\n## ")[0]
    performance = (ROOT / "docs" / "performance.md").read_text()
    figures = re.findall(r"\d[\d,]*\.?\d+", "\n".join(line for line in section.splitlines() if re.match(r"\| [a-z]", line)))

    assert len(figures) > 10
    assert [figure for figure in figures if figure not in performance] == []


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README)

    assert links
    for link in links:
        assert (ROOT / link).exists(), link
