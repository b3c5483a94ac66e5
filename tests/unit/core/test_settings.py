"""Settings that are wrong: one line each, with the variable's or option's name and no secret."""

import importlib
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from pydantic import AliasChoices, Field, RedisDsn, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from typer.testing import CliRunner

from plumbline import cli
from plumbline.core.errors import Misuse
from plumbline.core.settings import load


class Example(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")

    needed: Path
    count: Annotated[int, Field(ge=1)] = 1
    url: RedisDsn | None = None
    token: Annotated[SecretStr, Field(min_length=8)] = SecretStr("long enough")
    password: Annotated[SecretStr | None, Field(min_length=8, validation_alias=AliasChoices("THEIR_PASSWORD"))] = None


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("EXAMPLE_COUNT", "0", "EXAMPLE_COUNT: Input should be greater than or equal to 1; got '0'"),
        ("EXAMPLE_URL", "http://me:hunter2@host", "EXAMPLE_URL: URL scheme should be 'redis' or 'rediss'"),
        ("EXAMPLE_URL", "hunter2", "EXAMPLE_URL: Input should be a valid URL, relative URL without a base"),
        ("EXAMPLE_TOKEN", "hunter2", "EXAMPLE_TOKEN: Value should have at least 8 items after validation, not 7"),
        ("THEIR_PASSWORD", "hunter2", "THEIR_PASSWORD: Value should have at least 8 items after validation, not 7"),
    ],
)
def test_a_variable_is_named_and_a_secret_is_not_shown(monkeypatch, variable, value, line):
    monkeypatch.setenv(variable, value)
    with pytest.raises(Misuse) as raised:
        load(Example, needed="/x")
    assert str(raised.value) == line
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


def test_every_wrong_variable_has_its_line_and_an_option_its_own_name(monkeypatch):
    monkeypatch.setenv("EXAMPLE_COUNT", "many")
    with pytest.raises(Misuse, match=r"^EXAMPLE_NEEDED: Field required; it is not set\nEXAMPLE_COUNT: .*; got 'many'$"):
        load(Example)
    with pytest.raises(Misuse, match=r"^--count: .*; got 0$"):
        load(Example, needed="/x", count=0)


@pytest.mark.parametrize(
    ("topic", "arguments", "variable", "value", "said"),
    [
        ("promotion", ["served", "--env=x", "--out=x"], "PROMOTION_ATTEMPTS", "0", "PROMOTION_ATTEMPTS: "),
        ("monitoring", ["migrate"], "MONITORING_DATABASE_URL", "mysql://x", "MONITORING_DATABASE_URL: "),
        ("training", ["data", "--model=x", "--work=x", "--sample=2"], "X", "", "--sample: "),
        ("backup", ["list"], "BACKUP_STORE", "nowhere://x", "'--store' (env var: 'BACKUP_STORE'): "),
        (
            "scoring",
            ["--release=x", "--rows=x", "--out=x"],
            "PROMOTION_PUBLIC_KEY",
            "/no/key",
            "'--public-key' (env var: 'PROMOTION_PUBLIC_KEY'): ",
        ),
    ],
)
def test_every_command_says_a_wrong_setting_as_a_mistake(monkeypatch, topic, arguments, variable, value, said):
    monkeypatch.setenv(variable, value)
    app = importlib.import_module(f"plumbline.{topic}.cli").app
    done = CliRunner(env={"TERMINAL_WIDTH": "500"}).invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert said in done.output


def test_ctrl_c_ends_with_130_and_no_traceback():
    """Also while a subcommand is still being imported."""
    code = (
        "import os, signal, sys; from plumbline import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['plumbline', 'tree']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_package_that_a_command_misses_is_said_though_it_is_imported_late(monkeypatch, capsys):
    late = SimpleNamespace(app=lambda *_, **__: importlib.import_module("nowhere_at_all"))
    monkeypatch.setattr(cli, "import_module", lambda _: late)
    monkeypatch.setattr(sys, "argv", ["plumbline", "train", "run"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "plumbline train: nowhere_at_all is not here: install plumbline[platform]\n"
