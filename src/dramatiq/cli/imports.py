"""Find the broker and the modules that the command line names."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..actor import Actor
from ..broker import Broker, get_broker
from ..mistakes import close_match
from .commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

#: How many names a hint lists at most.
NAMES_LISTED = 8
#: How alike a module that is missing and a command must be, from 0 to 1, for the command to be
#: what was meant: more than modules among themselves, for there are many modules.
COMMAND_CUTOFF = 0.75


def import_object(value: str) -> tuple[ModuleType, Any]:
    """Import a module, and resolve a variable in it if one is named.

    Args:
        value: ``package.module`` or ``package.module:variable``, where the variable may have
            dots (``module:app.broker``).

    Returns:
        The module, and the object or None.

    Raises:
        ImportError: There is no such module or variable; says what to write instead.
        Exception: Whatever the module raises while it is imported.
    """
    return _resolve(value)


def _resolve(value: str, *, may_be_command: bool = False) -> tuple[ModuleType, Any]:
    """See `import_object`; where the module is missing, a command may have been meant."""
    module_name, _, attribute = value.partition(":")
    _refuse_file_name(value, module_name)
    module = _import_module(module_name, may_be_command=may_be_command)
    if not attribute:
        return module, None

    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ImportError(
                f"Module {module_name!r} does not define a {attribute!r} variable."
                + _attribute_hint(module_name, found, name, attribute)
            )
        found = getattr(found, name)
    return module, found


def import_broker(value: str) -> tuple[ModuleType, Broker]:
    """Import the module that sets the broker up, and return that broker.

    Args:
        value: ``package.module`` takes the global broker afterwards. ``package.module:variable``
            takes the variable if it is a broker; if it is callable it is called without
            arguments, and the global broker is taken afterwards.

    Returns:
        The module and the broker.

    Raises:
        ImportError: There is no such module or variable, or it is not a broker.
        Exception: Whatever the module or the callable raises.
    """
    return _broker_of(value, *import_object(value))


def import_first_word(value: str) -> tuple[ModuleType, Broker]:
    """Do what `import_broker` does, for a word in whose place a command may have been meant."""
    return _broker_of(value, *_resolve(value, may_be_command=True))


def _broker_of(value: str, module: ModuleType, found: Any) -> tuple[ModuleType, Broker]:
    if found is None:
        return module, get_broker()
    if isinstance(found, Broker):
        return module, found

    module_name = value.partition(":")[0]
    if isinstance(found, Actor):
        raise ImportError(  # noqa: TRY004 - all mistakes in the name of the broker raise this
            f"{value!r} is not a Broker. It is an actor: run `dramatiq {module_name}`, "
            "which serves every actor of the module."
        )
    if callable(found):
        found()
        return module, get_broker()
    raise ImportError(
        f"{value!r} is not a Broker. It is of type {type(found).__name__!r}."
        + _brokers_hint(module_name, module)
    )


def close_matches(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name that is most alike, or an empty string."""
    return close_match(name, known)


def _command_hint(name: str) -> str:
    from difflib import get_close_matches

    matches = get_close_matches(name, COMMANDS, n=1, cutoff=COMMAND_CUTOFF)
    return f" Did you mean the command {matches[0]!r}?" if matches else ""


def _refuse_file_name(value: str, module_name: str) -> None:
    """Say what to write instead of the path of a file, before anything of it is run."""
    is_path = os.sep in module_name or module_name.startswith(".")
    is_source = module_name.endswith(".py") and Path(module_name).is_file()
    if not is_path and not is_source:
        return

    path = Path(module_name.removesuffix(".py"))
    parts = [part for part in path.parts if part not in (os.curdir, os.pardir, os.sep)]
    instead = ".".join(parts) + value[len(module_name) :]
    hint = f" Run `dramatiq {instead}` instead." if parts else ""
    if parts and (path.is_absolute() or os.pardir in path.parts):
        name = parts[-1] + value[len(module_name) :]
        hint = f" Run `dramatiq {name} --path {path.parent}` instead."
    raise ImportError(f"{module_name!r} is a file, and the name of a module is needed.{hint}")


def _import_module(module_name: str, *, may_be_command: bool) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only when the module itself is missing. What it imports in turn is the user's story,
        # and is told with the traceback of the user's file.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ImportError(
            f"Cannot import {module_name!r} from {_first_directory().resolve()}."
            + _module_hint(error.name)
            + (_command_hint(module_name) if may_be_command else "")
        ) from None


def _module_hint(missing: str) -> str:
    package, _, name = missing.rpartition(".")
    known = sorted(_modules_in(package))
    hint = close_matches(name, known)
    if known:
        listed = ", ".join(known[:NAMES_LISTED])
        more = ", ..." if len(known) > NAMES_LISTED else ""
        hint += f" (modules in {package or 'this directory'}: {listed}{more})"
    return hint


def _first_directory() -> Path:
    """Return the directory that is searched first, where users expect their module to be."""
    return Path(sys.path[0] if sys.path else os.curdir)


def _modules_in(package: str) -> set[str]:
    """Return the names of the modules beside the one that is missing."""
    directories = [_first_directory()]
    if package:
        directories = [Path(entry) for entry in getattr(sys.modules.get(package), "__path__", ())]
    names = set()
    for directory in directories:
        if not directory.is_dir():  # an archive
            continue
        for path in directory.iterdir():
            is_package = path.is_dir() and (path / "__init__.py").is_file()
            if (path.suffix == ".py" or is_package) and path.stem.isidentifier():
                names.add(path.stem)
    return names - {"__init__", "__main__"}


def _attribute_hint(module_name: str, owner: Any, name: str, attribute: str) -> str:
    hint = close_matches(name, (known for known in dir(owner) if not known.startswith("_")))
    if "." in attribute:
        return hint
    return hint + _brokers_hint(module_name, owner)


def _brokers_hint(module_name: str, module: Any) -> str:
    names = [name for name, found in vars(module).items() if isinstance(found, Broker)]
    if not names:
        return ""
    return f" Brokers in it: {', '.join(f'{module_name}:{name}' for name in names)}."
