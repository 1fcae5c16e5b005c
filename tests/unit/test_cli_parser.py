from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

import dramatiq
from dramatiq.cli import CPUS, make_argument_parser


@pytest.fixture
def parse():
    return make_argument_parser().parse_args


def test_defaults_are_those_of_the_documentation(parse):
    args = vars(parse(["app"]))

    assert args == {
        "broker": "app",
        "modules": [],
        "processes": CPUS,
        "threads": 8,
        "async_slots": None,
        "async_uvloop": False,
        "path": ["."],
        "queues": None,
        "exclude_queues": None,
        "pid_file": None,
        "log_file": None,
        "skip_logging": False,
        "log_format": "plain",
        "use_spawn": False,
        "forks": [],
        "worker_fork_timeout": 30_000.0,
        "worker_shutdown_timeout": 600_000,
        "die_with_child": False,
        "rolling": False,
        "burst": False,
        "max_messages": None,
        "max_memory": None,
        "check": False,
        "strict": False,
        "watch": None,
        "watch_use_polling": False,
        "include_patterns": ["**.py"],
        "exclude_patterns": None,
        "verbose": 0,
    }


def test_short_options_mean_the_same_as_long_ones(parse):
    def parse_line(line):
        return parse(line.split())

    short = parse_line("app m1 m2 -p 2 -t 3 -P a b -Q x y -f m:f -i *.html -x *.tmp -vv")
    long = parse_line(
        "app m1 m2 --processes 2 --threads 3 --path a b --queues x y --fork-function m:f "
        "--watch-include *.html --watch-exclude *.tmp --verbose --verbose"
    )

    assert short == long
    assert short.modules == ["m1", "m2"]
    assert short.path == ["a", "b"]
    assert short.queues == ["x", "y"]
    assert short.forks == ["m:f"]
    assert short.include_patterns == ["**.py", "*.html"]
    assert short.exclude_patterns == ["*.tmp"]
    assert short.verbose == 2


#: The long options of 2.x, with a value where they take one.
OPTIONS_OF_OLD = {
    "--processes": "3",
    "--threads": "3",
    "--path": None,
    "--queues": None,
    "--pid-file": "3",
    "--log-file": "3",
    "--skip-logging": None,
    "--use-spawn": None,
    "--fork-function": "3",
    "--worker-fork-timeout": "30",
    "--worker-shutdown-timeout": "3",
    "--watch": ".",
    "--watch-use-polling": None,
    "--watch-include": "3",
    "--watch-exclude": "3",
    "--verbose": None,
    "--version": None,
    "--help": None,
}


def prefixes_that_were_enough():
    """Yield every beginning of an option of 2.x that no other option of 2.x begins with."""
    for option in OPTIONS_OF_OLD:
        for length in range(3, len(option)):
            prefix = option[:length]
            rivals = [each for each in OPTIONS_OF_OLD if each.startswith(prefix)]
            if rivals == [option]:
                yield prefix, option


def meaning(parse, capsys, option, value):
    given = [option] if value is None else [f"{option}={value}"]
    try:
        return parse(["app", *given])
    except SystemExit as end:
        return end.code, capsys.readouterr()


@pytest.mark.parametrize(("prefix", "option"), list(prefixes_that_were_enough()))
def test_every_beginning_of_an_option_of_old_still_means_it(parse, capsys, prefix, option):
    value = OPTIONS_OF_OLD[option]

    expected = meaning(parse, capsys, option, value)

    assert meaning(parse, capsys, prefix, value) == expected
    assert expected != parse(["app"])
    assert not isinstance(expected, tuple) or expected[0] == 0


def test_a_beginning_that_was_ambiguous_still_is(parse, capsys):
    with pytest.raises(SystemExit):
        parse(["app", "--wat"])

    assert "ambiguous option: --wat" in capsys.readouterr().err


def test_new_options_may_be_abbreviated_where_no_old_one_is_meant(parse):
    assert parse(["app", "--log-fo", "json"]).log_format == "json"
    assert parse(["app", "--rol"]).rolling


@pytest.mark.parametrize(
    ("given", "queues"),
    [
        (["-Q", "a", "b"], ["a", "b"]),
        (["-Q", "a,b"], ["a", "b"]),
        (["-Q", "a,", "b,c"], ["a", "b", "c"]),
        (["-Q"], []),
    ],
)
def test_queues_are_separated_by_spaces_or_commas(parse, given, queues):
    assert parse(["app", *given]).queues == queues


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["-p", "0"], "must be 1 or more, not 0"),
        (["-t", "0"], "must be 1 or more, not 0"),
        (["-p", "two"], "'two' is not a whole number"),
        (["--async-slots", "-1"], "must be 0 or more, not -1"),
        (["--max-messages", "0"], "must be 1 or more, not 0"),
        (["--max-memory", "much"], "'much' is not a whole number"),
        (["--log-format", "xml"], "invalid choice: 'xml'"),
        (["--worker-fork-timeout", "fast"], "worker-fork-timeout be a number."),
        (
            ["--worker-fork-timeout", "9"],
            "worker-fork-timeout too small (minimum recommended: 10ms).",
        ),
        (
            ["--worker-fork-timeout", "nan"],
            "worker-fork-timeout too small (minimum recommended: 10ms).",
        ),
        (
            ["--worker-fork-timeout", "3_600_000"],
            "worker-fork-timeout too large (maximum: 30 minutes).",
        ),
        (["--watch", "/no/such/directory"], "'/no/such/directory' is not an existing directory."),
    ],
)
def test_impossible_values_are_usage_errors(parse, capsys, given, text):
    with pytest.raises(SystemExit) as exit_info:
        parse(["app", *given])

    assert exit_info.value.code == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("value", ["10", "1800000", "1_800_000", "1e3"])
def test_fork_timeouts_within_the_limits_are_accepted(parse, value):
    assert parse(["app", "--worker-fork-timeout", value]).worker_fork_timeout == float(value)


def test_the_version_goes_to_standard_output(parse, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse(["--version"])

    assert exit_info.value.code == 0
    assert capsys.readouterr().out.strip() == dramatiq.__version__


def test_help_shows_examples(parse, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse(["--help"])

    assert exit_info.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_programs_may_add_options_of_their_own():
    parser = make_argument_parser()
    parser.add_argument("--mine")

    args = parser.parse_args(["app", "--mine", "x"])

    assert isinstance(args, argparse.Namespace)
    assert args.mine == "x"


def test_importing_the_command_line_does_not_import_user_interfaces_or_servers():
    forbidden = {"asyncio.events", "http", "sqlite3", "unittest", "watchdog", "gevent"}
    code = "import sys, dramatiq.cli; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30
    ).stdout.split()

    assert not forbidden & set(loaded)
