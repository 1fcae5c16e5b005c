"""Reloading when sources change."""

from __future__ import annotations

import time

import pytest

from .conftest import eventually

ONE = ("-p", "1", "-t", "1", "--watch", ".")

POLLING = pytest.mark.parametrize("how", [(), ("--watch-use-polling",)], ids=["events", "polling"])


@pytest.fixture
def start(write_module, run):
    """Start the program and wait until it notices changes."""
    write_module("app", "print('version one')")

    def start_and_wait(*arguments):
        return run("app", *ONE, *arguments).wait_until_ready()

    return start_and_wait


@POLLING
def test_a_changed_source_is_loaded(write_module, start, how):
    program = start(*how)

    write_module("app", "print('version two, longer')")

    program.wait_for("Changed: app.py. Reloading.").wait_for("version two, longer")
    program.wait_until_ready(2)
    assert program.stop() == 0


def test_a_source_that_is_saved_twice_in_a_second_is_loaded_twice(write_module, start):
    # With the same size: bytecode of the first version would pass for that of the second.
    program = start()

    write_module("app", "print('version two')")
    program.wait_for("version two").wait_until_ready(2)
    write_module("app", "print('version six')")

    program.wait_for("version six").wait_until_ready(3)
    assert program.stop() == 0


@POLLING
def test_a_touched_source_is_loaded_and_one_that_is_merely_opened_is_not(tmp_path, start, how):
    (tmp_path / "other.py").touch()
    program = start(*how)

    (tmp_path / "app.py").read_text()
    (tmp_path / "other.py").touch()

    program.wait_for("Changed: other.py. Reloading.").wait_until_ready(2)
    assert "app.py" not in program.output
    assert program.stop() == 0


def test_many_changes_at_once_are_one_reload_and_no_force(write_module, start):
    write_module("app", "@dramatiq.actor\ndef work():\n    time.sleep(0.7)\n    print('done')\n")
    program = start()

    for number in range(50):
        write_module(f"part{number}", "")
        time.sleep(0.005)  # as an editor or a version control system does it

    program.wait_for("SIGHUP: stopping to reload").wait_until_ready(2)
    assert "done" in program.output
    assert program.output.count("SIGHUP: stopping to reload") == 1
    assert "again" not in program.output
    assert program.stop() == 0


def test_patterns_say_which_files_matter(tmp_path, write_module, start):
    (tmp_path / "generated").mkdir()
    program = start("-i", "*.html", "-x", "generated/*")

    (tmp_path / "notes.txt").write_text("not watched")
    (tmp_path / "generated" / "code.py").write_text("excluded")
    (tmp_path / "page.html").write_text("watched")

    program.wait_for("Changed: page.html. Reloading.").wait_until_ready(2)
    assert program.stop() == 0


def test_with_rolling_every_change_is_loaded_without_a_gap(write_module, start):
    program = start("--rolling")

    write_module("app", "import surely_not_installed")
    program.wait_for("The roll ends here")
    write_module("app", "print('repaired')")

    program.wait_for("repaired").wait_for("have been replaced")
    assert program.stop() == 0


def test_the_watcher_ends_with_the_supervisor(start):
    from .test_cli_rolling import children_of

    program = start()
    children = children_of(program)

    program.process.kill()

    from .conftest import is_alive

    eventually(lambda: not any(map(is_alive, children)), "the end of the children")


def test_what_changed_while_nobody_watched_yet_is_loaded(tmp_path, write_module, run):
    # The application changes itself while it is imported, before anybody can watch.
    write_module(
        "app",
        """
        if not os.path.exists("part.py"):
            open("part.py", "w").close()
        print("began")
        """,
    )

    program = run("app", *ONE).wait_for("Changed: part.py. Reloading.").wait_for("began", 2)

    assert program.stop() == 0


def test_watching_without_its_package_says_how_to_install_it(tmp_path, write_module, run):
    write_module("app", "")
    script = tmp_path / "without.py"
    script.write_text(
        "import sys, importlib.util\n"
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: (\n"
        "    None if name == 'watchfiles' else find_spec(name, *rest))\n"
        "from dramatiq.cli import HAS_WATCHDOG, main\n"
        "assert not HAS_WATCHDOG\n"
        "sys.exit(main())\n"
    )

    program = run("app", *ONE, script=str(script))

    assert program.wait() == 2
    assert "[CRITICAL]" in program.output
    assert "pip install 'dramatiq[watch]'" in program.output
