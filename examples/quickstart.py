# ruff: noqa: D103, I002 (the four lines that a first application needs, and nothing else)
"""The smallest application.

In this folder, with nothing installed but dramatiq:

    python -c "import quickstart; quickstart.greet.send('world')"     # sends a message
    dramatiq quickstart                                               # runs it; Ctrl-C stops

Nobody chose a broker here, so messages wait in the file dramatiq.db of the current folder.
"""

import dramatiq


@dramatiq.actor
def greet(name: str) -> None:
    print(f"Hello, {name}!")
