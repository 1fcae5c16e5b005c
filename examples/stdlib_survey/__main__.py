"""The command line of the survey: ``python -m examples.stdlib_survey``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path


def main() -> int:
    """Run the survey; return the exit code."""
    arguments = _parse_arguments()
    # The terminal going away, or a polite kill, ends it as Ctrl-C does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    # Handed to the workers too. The actors choose their broker when they are imported.
    os.environ["SURVEY_FOLDER"] = str(arguments.folder.resolve())
    from dramatiq import BrokerConnectionError

    from .driver import Options, run
    from .workers import SurveyError

    try:
        run(
            Options(
                source=arguments.source and arguments.source.resolve(),
                fresh=arguments.fresh,
                processes=arguments.processes,
                threads=arguments.threads,
                timeout_s=arguments.timeout,
            )
        )
    except KeyboardInterrupt:
        print("\nStopped. What is done is kept: run this again to continue.")
        return 128 + signal.SIGINT
    except (SurveyError, BrokerConnectionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.stdlib_survey",
        description="Measure every source file of the standard library with worker processes.",
        epilog="Run it again after an interruption: it continues where it was.",
    )
    add = parser.add_argument
    add("--folder", type=Path, default=Path("demo-survey"), help="where to keep everything")
    add("--source", type=Path, help="survey this tree instead of the standard library")
    add("--fresh", action="store_true", help="forget an unfinished survey and start anew")
    add("--processes", type=int, default=2, help="worker processes (default: %(default)s)")
    add("--threads", type=int, default=8, help="threads of each (default: %(default)s)")
    add("--timeout", type=float, default=300, help="seconds to give up after (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
