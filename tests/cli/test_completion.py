"""`docket completion SHELL`: the scripts, and the answers that they ask for."""

import shutil
import subprocess

import pytest

from tests.cli._command import DEADLINE, MODULE, SCRIPT, Command, environment


def answers(command: Command, *words: str, shell: str = "bash") -> list[str]:
    """What the shell is told may come next, after these words, the last of which is yet to be finished."""
    variables = {"_DOCKET_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(("docket", *words)), "COMP_CWORD": str(len(words))}
    told = command(env=variables)
    assert (told.returncode, told.stderr) == (0, "")
    return [line.partition(",")[2] for line in told.stdout.splitlines()]


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete -o nosort -F"), ("zsh", "#compdef docket"), ("fish", "complete --no-files --command docket")])
def test_the_script_is_printed(shell: str, word: str, docket_command: Command):
    printed = docket_command("completion", shell)

    assert printed.returncode == 0
    assert word in printed.stdout
    assert "_DOCKET_COMPLETE" in printed.stdout


def test_there_is_none_for_other_shells(docket_command: Command):
    refused = docket_command("completion", "tcsh")

    assert refused.returncode == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in refused.stderr


def test_commands_are_completed(docket_command: Command):
    assert answers(docket_command, "s") == ["show", "snapshot", "strike", "strikes"]
    assert answers(docket_command, "workers", "") == ["for-task", "ls"]
    assert answers(docket_command, "dead", "") == ["ls", "retry", "rm", "show"]
    assert "worker" in answers(docket_command, "wroker", "")  # as though the slip were not there


def test_options_and_their_values_are_completed(docket_command: Command):
    assert answers(docket_command, "ls", "--st") == ["--state"]
    assert answers(docket_command, "ls", "--state", "c") == ["completed", "cancelled"]
    assert answers(docket_command, "dead", "ls", "--reason", "un") == ["undecodable", "unknown"]
    assert answers(docket_command, "--ver") == ["--version"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize("entry", [pytest.param(MODULE, id="python -m docket"), pytest.param(SCRIPT, id="docket")])
def test_bash_takes_the_script_and_gets_its_answers(entry: tuple[str, ...], docket_command: Command):
    script = """
        docket() { "$@"; }
        eval "$("${ENTRY[@]}" completion bash)"
        COMP_WORDS=(docket work) COMP_CWORD=1
        _docket_completion "$1"
        echo "${COMPREPLY[*]}"
    """
    wanted = f"ENTRY=({' '.join(entry)}); {script}"
    told = subprocess.run(
        ["bash", "-c", wanted, "bash", SCRIPT[0]],
        cwd=docket_command.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )

    assert told.stdout == "worker workers\n", told.stderr
