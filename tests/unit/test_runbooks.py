"""Every command of a runbook is one that a test runs, or is listed as not tried."""

import re
import shlex
from importlib import import_module

import pytest
import typer.main
from runbooks import commands, is_read, untried

from plumbline.cli import MODULES

PLUMBLINE = sorted({command for _, command in commands() if command.startswith("plumbline ")})


def lacking(command: str) -> list[str]:
    """Options that a command does not know, or asks for and does not get; a mention without options lacks none."""
    _, topic, *rest = shlex.split(re.sub("<[^>]+>", "x", command))
    found = typer.main.get_command(import_module(f"plumbline.{MODULES[topic]}").app)
    while rest and rest[0] in getattr(found, "commands", {}):
        found = found.commands[rest.pop(0)]  # type: ignore[attr-defined]
    given = [word.partition("=")[0] for word in rest if word.startswith("--")]
    known = {name for item in found.params for name in (*item.opts, *item.secondary_opts)}
    asked = [item.opts for item in found.params if item.required and item.param_type_name == "option"]
    missing = [names[0] for names in asked if given and not set(names) & set(given)]
    return missing + [name for name in given if name not in known]


@pytest.mark.parametrize("command", PLUMBLINE)
def test_a_command_of_ours_has_every_option_that_it_asks_for(command: str) -> None:
    assert lacking(command) == []


def test_what_is_wrong_in_a_command_is_found() -> None:
    assert lacking("plumbline promote status --model flights") == ["--env"]
    assert lacking("plumbline promote resume --modle flights") == ["--model", "--modle"]
    assert lacking("plumbline promote status --env <env>") == []


def test_every_other_command_is_run_by_a_test_or_listed_as_not_tried() -> None:
    others = {command for _, command in commands() if not command.startswith("plumbline ") and not is_read(command)}
    assert sorted(untried()) == sorted(others)
