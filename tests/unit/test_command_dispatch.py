from __future__ import annotations

import subprocess
import sys

import pytest

import dramatiq
from dramatiq.cli import import_object, make_argument_parser
from dramatiq.cli.commands import COMMANDS, is_command
from dramatiq.cli.commands.dispatch import make_command_parser
from dramatiq.cli.imports import import_first_word
from dramatiq.errors import ConnectionFailed


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reserved_word_in_the_first_place_is_a_command(name):
    assert is_command([name])
    assert is_command([name, "app"])


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["app"],
        ["-p", "2", "app"],
        ["app", "top"],
        ["-v", "top"],
        ["top:broker"],
        ["top.py"],
        ["./top"],
        ["app.top"],
        ["Top"],
        ["requeu"],
    ],
)
def test_everything_else_is_the_command_line_of_workers(argv):
    assert not is_command(argv)


def test_a_module_called_worker_comes_before_the_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_command(["worker"])

    (tmp_path / "worker.py").touch()

    assert not is_command(["worker"])


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"run", "worker", "dev"}))
def test_every_command_has_help_and_says_how_to_name_the_application(name):
    text = make_command_parser(name).format_help()

    assert text.startswith(f"usage: dramatiq {name} ")
    assert "DRAMATIQ_BROKER_URL" in text


def test_the_help_of_workers_lists_the_commands():
    text = make_argument_parser().format_help()

    for name in COMMANDS:
        assert f"\n  {name} " in text


def test_a_module_that_is_missing_may_have_been_meant_as_a_command():
    with pytest.raises(ImportError) as raised:
        import_first_word("requeu")

    assert "Did you mean the command 'requeue'?" in str(raised.value)


@pytest.mark.parametrize("name", ["requeu", "requeu.mail", "pytset"])
def test_nobody_is_asked_about_commands_where_none_can_stand(name):
    with pytest.raises(ImportError) as raised:
        import_object(name)

    assert "the command" not in str(raised.value)


def test_a_module_that_is_called_like_a_command_is_told_how_to_run(command, tmp_path):
    (tmp_path / "queues.py").write_text("")

    code, output, errors = command("queues")

    assert code == 0
    assert "'queues' is taken for the command" in errors
    assert "dramatiq run queues" in errors
    assert "taken" not in output


def test_a_broker_that_cannot_be_reached_is_one_line_without_its_password(
    command, inspected_broker
):
    inspected_broker.double.error = ConnectionFailed("cannot connect\nto redis://me:pw@host:1/0.")

    code, output, errors = command("queues")

    assert code == 4
    assert output == ""
    assert errors.startswith("dramatiq queues: cannot connect to redis://me:***@host:1/0. ")
    assert errors.count("\n") == 1
    assert "DRAMATIQ_BROKER_URL" in errors


def test_what_a_broker_does_not_offer_is_a_failure_and_says_so(command, stub_broker):
    dramatiq.set_broker(PlainBroker())

    code, output, errors = command("workers")

    assert code == 1
    assert output == ""
    assert "PlainBroker does not support 'workers'" in errors


class PlainBroker(dramatiq.Broker):
    pass


def test_a_module_that_cannot_be_imported_is_wrong_usage(command):
    code, _, errors = command("queues", "no_such_module")

    assert code == 2
    assert "Cannot import 'no_such_module'" in errors
    assert "Traceback" not in errors


def test_a_module_that_fails_is_shown_from_the_users_file_down(command, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "shop_that_fails", raising=False)
    (tmp_path / "shop_that_fails.py").write_text("1 / 0\n")

    code, _, errors = command("actors", "shop_that_fails")

    assert code == 2
    assert "ZeroDivisionError" in errors
    assert 'shop_that_fails.py", line 1' in errors
    assert "importlib" not in errors


def test_options_are_spelt_out_where_they_destroy(command):
    code, _, errors = command("requeue", "--ye")

    assert code == 2
    assert "unrecognized arguments: --ye" in errors


def test_the_workers_command_line_does_not_load_the_commands():
    code = "import sys, dramatiq.cli; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30
    ).stdout.split()

    assert [name for name in loaded if name.startswith("dramatiq.cli.commands")] == [
        "dramatiq.cli.commands"
    ]


def test_an_interrupt_ends_a_command_with_a_line(command, inspected_broker):
    inspected_broker.double.error = KeyboardInterrupt()

    code, _, errors = command("queues")

    assert code == 1
    assert errors == "dramatiq queues: interrupted; what was done until then stays done.\n"


def test_an_application_that_talks_to_its_broker_in_vain_is_told_apart(
    command, tmp_path, monkeypatch
):
    monkeypatch.delitem(sys.modules, "shop_without_broker", raising=False)
    (tmp_path / "shop_without_broker.py").write_text(
        "import dramatiq\nraise dramatiq.ConnectionFailed('refused.')\n"
    )

    code, _, errors = command("actors", "shop_without_broker")

    assert code == 4
    assert errors.startswith("dramatiq actors: refused. ")


def test_more_modules_are_imported_for_their_actors(command, tmp_path, monkeypatch):
    for name in ("shop_a", "shop_b"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        source = f"import dramatiq\n\n@dramatiq.actor\ndef {name}_actor(): pass\n"
        (tmp_path / f"{name}.py").write_text(source)

    _, output, _ = command("actors", "shop_a", "-a", "shop_b")

    assert [line.split()[0] for line in output.splitlines()[1:]] == ["shop_a_actor", "shop_b_actor"]


def test_a_url_that_no_broker_serves_is_wrong_usage(command, monkeypatch):
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", "carrier-pigeon://loft")

    code, _, errors = command("queues")

    assert code == 2
    assert "DRAMATIQ_BROKER_URL cannot be used: " in errors
    assert "Known: stub://, sqlite://" in errors
    assert errors.count("\n") == 1
