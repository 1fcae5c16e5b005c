"""What others import, and how it may be called: names, modules, signatures, defaults."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.resources
import inspect
import pickle
import queue
import subprocess
import sys
import warnings
from typing import Any

import pytest

import dramatiq
from dramatiq.brokers.stub import StubBroker

EXPORTED = {
    "Actor",
    "GenericActor",
    "actor",
    "Broker",
    "Consumer",
    "MessageProxy",
    "get_broker",
    "set_broker",
    "group",
    "pipeline",
    "Encoder",
    "JSONEncoder",
    "PickleEncoder",
    "DramatiqError",
    "BrokerError",
    "DecodeError",
    "ActorNotFound",
    "QueueNotFound",
    "QueueJoinTimeout",
    "BrokerConnectionError",
    "ConnectionClosed",
    "ConnectionFailed",
    "RateLimitExceeded",
    "Retry",
    "get_logger",
    "Message",
    "get_encoder",
    "set_encoder",
    "Middleware",
    "Worker",
    "ConsumerThread",
    "WorkerThread",
}

#: Modules that must declare exactly these names as theirs.
EXACT_EXPORTS = {
    "dramatiq": EXPORTED,
    "dramatiq.asyncio": {
        "EventLoopThread",
        "async_to_sync",
        "get_event_loop_thread",
        "set_event_loop_thread",
    },
    "dramatiq.middleware": {
        "Middleware",
        "MiddlewareError",
        "SkipMessage",
        "Interrupt",
        "raise_thread_exception",
        "AgeLimit",
        "AsyncIO",
        "Callbacks",
        "CurrentMessage",
        "GroupCallbacks",
        "Pipelines",
        "Retries",
        "Shutdown",
        "ShutdownNotifications",
        "TimeLimit",
        "TimeLimitExceeded",
    },
    "dramatiq.rate_limits": {
        "RateLimiterBackend",
        "RateLimiter",
        "RateLimitExceeded",
        "Barrier",
        "BucketRateLimiter",
        "ConcurrentRateLimiter",
        "WindowRateLimiter",
    },
    "dramatiq.results": {
        "Missing",
        "ResultBackend",
        "ResultError",
        "ResultFailure",
        "ResultTimeout",
        "ResultMissing",
        "Results",
    },
    "dramatiq.threading": {
        "Interrupt",
        "current_platform",
        "is_gevent_active",
        "raise_thread_exception",
        "supported_platforms",
    },
}

#: Names that others import from each module.
MODULE_MAP = {
    "dramatiq.actor": "Actor ActorDecorator actor _queue_name_re",
    "dramatiq.broker": "Broker Consumer MessageProxy get_broker set_broker global_broker",
    "dramatiq.brokers": "",
    "dramatiq.brokers.stub": "StubBroker",
    "dramatiq.canteen": "Buffer Canteen canteen_add canteen_get canteen_try_init wait",
    "dramatiq.cli": (
        "main make_argument_parser import_object import_broker CPUS LOGFORMAT VERBOSITY RET_OK "
        "RET_KILLED RET_IMPORT RET_CONNECT RET_PIDFILE HANDLED_SIGNALS BUFSIZE HELP_EPILOG "
        "HAS_WATCHDOG folder_path worker_fork_timeout_type setup_pidfile remove_pidfile "
        "setup_parent_logging make_logging_setup setup_worker_logging setup_fork_logging "
        "watch_logs worker_process fork_process try_block_signals try_unblock_signals"
    ),
    "dramatiq.common": (
        "getenv_int compute_backoff current_millis iter_queue join_queue join_all q_name dq_name "
        "xq_name"
    ),
    "dramatiq.compat": "StreamablePipe file_or_stderr",
    "dramatiq.composition": "group pipeline",
    "dramatiq.encoder": "Encoder JSONEncoder PickleEncoder MessageData",
    "dramatiq.errors": (
        "DramatiqError BrokerError DecodeError ActorNotFound QueueNotFound QueueJoinTimeout "
        "BrokerConnectionError ConnectionFailed ConnectionClosed RateLimitExceeded Retry"
    ),
    "dramatiq.generic": "GenericActor generic_actor",
    "dramatiq.logging": "get_logger",
    "dramatiq.message": "Message get_encoder set_encoder generate_unique_id global_encoder",
    "dramatiq.middleware": "default_middleware",
    "dramatiq.middleware.age_limit": "AgeLimit",
    "dramatiq.middleware.asyncio": "AsyncIO",
    "dramatiq.middleware.callbacks": "Callbacks",
    "dramatiq.middleware.current_message": "CurrentMessage",
    "dramatiq.middleware.group_callbacks": "GroupCallbacks",
    "dramatiq.middleware.middleware": "Middleware MiddlewareError SkipMessage",
    "dramatiq.middleware.pipelines": "Pipelines",
    "dramatiq.middleware.retries": "Retries DEFAULT_MIN_BACKOFF DEFAULT_MAX_BACKOFF",
    "dramatiq.middleware.shutdown": "Shutdown ShutdownNotifications",
    "dramatiq.middleware.threading": (
        "Interrupt current_platform is_gevent_active raise_thread_exception supported_platforms"
    ),
    "dramatiq.middleware.time_limit": "TimeLimit TimeLimitExceeded",
    "dramatiq.rate_limits.backend": "RateLimiterBackend",
    "dramatiq.rate_limits.backends": "StubBackend",
    "dramatiq.rate_limits.backends.stub": "StubBackend",
    "dramatiq.rate_limits.barrier": "Barrier",
    "dramatiq.rate_limits.bucket": "BucketRateLimiter",
    "dramatiq.rate_limits.concurrent": "ConcurrentRateLimiter",
    "dramatiq.rate_limits.rate_limiter": "RateLimiter RateLimitExceeded",
    "dramatiq.rate_limits.window": "WindowRateLimiter",
    "dramatiq.results.backend": (
        "ResultBackend Missing Result MResult DEFAULT_TIMEOUT BACKOFF_FACTOR ResultMissing "
        "ResultTimeout compute_backoff"
    ),
    "dramatiq.results.backends": "StubBackend",
    "dramatiq.results.backends.stub": "StubBackend",
    "dramatiq.results.errors": "ResultError ResultTimeout ResultMissing ResultFailure",
    "dramatiq.results.middleware": "Results DEFAULT_RESULT_TTL",
    "dramatiq.results.result": "wrap_result wrap_exception unwrap_result",
    "dramatiq.threading": "logger",
    "dramatiq.worker": (
        "Worker ConsumerThread WorkerThread _ConsumerThread _WorkerThread _WorkQueueItem "
        "_WorkerMiddleware has_results_middleware CONSUMER_RESTART_DELAY "
        "CONSUMER_RESTART_DELAY_SECS POST_PROCESS_MESSAGE_RETRY_DELAY_SECS QUEUE_PREFETCH "
        "DELAY_QUEUE_PREFETCH WORKER_TIMEOUT"
    ),
    "dramatiq.__main__": "main",
}

REACHABLE = [
    "asyncio",
    "broker",
    "common",
    "composition",
    "encoder",
    "errors",
    "generic",
    "logging",
    "message",
    "middleware",
    "rate_limits",
    "results",
    "threading",
    "worker",
]


# -- names


@pytest.mark.parametrize("module_name", EXACT_EXPORTS)
def test_modules_export_what_they_always_did_and_nothing_else(module_name):
    module = importlib.import_module(module_name)

    assert EXACT_EXPORTS[module_name] == set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("module_name", MODULE_MAP)
def test_modules_hold_the_names_others_import_from_them(module_name):
    module = importlib.import_module(module_name)

    missing = [name for name in MODULE_MAP[module_name].split() if not hasattr(module, name)]

    assert missing == []


def test_the_version_can_be_parsed():
    major, minor, patch = dramatiq.__version__.split(".")

    assert (2, True, True) == (int(major), minor.isdigit(), patch.isdigit())


def test_the_decorator_shadows_its_module_but_the_module_can_be_imported():
    from dramatiq.actor import Actor

    assert inspect.isfunction(dramatiq.actor)
    assert Actor is dramatiq.Actor


def test_private_names_of_threads_are_the_public_classes():
    from dramatiq import worker

    assert worker._WorkerThread is worker.WorkerThread is dramatiq.WorkerThread
    assert worker._ConsumerThread is worker.ConsumerThread is dramatiq.ConsumerThread


def test_one_object_is_known_under_all_its_paths():
    from dramatiq import errors, middleware, rate_limits, results, threading
    from dramatiq.middleware import threading as middleware_threading
    from dramatiq.results import errors as results_errors

    assert rate_limits.RateLimitExceeded is errors.RateLimitExceeded is dramatiq.RateLimitExceeded
    assert middleware.Interrupt is threading.Interrupt is middleware_threading.Interrupt
    assert results.ResultTimeout is results_errors.ResultTimeout


def test_the_package_says_that_it_is_typed():
    assert importlib.resources.files("dramatiq").joinpath("py.typed").is_file()


def test_the_metadata_has_the_name_and_version_of_the_package():
    from importlib.metadata import distribution

    assert ("dramatiq", dramatiq.__version__) == (
        distribution("dramatiq").name,
        distribution("dramatiq").version,
    )


def test_the_default_middleware_is_a_list_of_classes_in_order():
    from dramatiq.middleware import default_middleware

    assert [
        "AgeLimit",
        "TimeLimit",
        "ShutdownNotifications",
        "Callbacks",
        "Pipelines",
        "Retries",
    ] == [each.__name__ for each in default_middleware]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("dramatiq.middleware.retries.DEFAULT_MIN_BACKOFF", 15_000),
        ("dramatiq.middleware.retries.DEFAULT_MAX_BACKOFF", 604_800_000),
        ("dramatiq.results.backend.DEFAULT_TIMEOUT", 10_000),
        ("dramatiq.results.backend.BACKOFF_FACTOR", 100),
        ("dramatiq.results.middleware.DEFAULT_RESULT_TTL", 600_000),
        ("dramatiq.worker.CONSUMER_RESTART_DELAY", 3000),
        ("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 3),
        ("dramatiq.worker.POST_PROCESS_MESSAGE_RETRY_DELAY_SECS", 5),
        ("dramatiq.worker.QUEUE_PREFETCH", 0),
        ("dramatiq.worker.DELAY_QUEUE_PREFETCH", 0),
        ("dramatiq.worker.WORKER_TIMEOUT", 1000),
        ("dramatiq.threading.supported_platforms", {"CPython"}),
        ("dramatiq.cli.RET_OK", 0),
        ("dramatiq.cli.RET_IMPORT", 2),
        ("dramatiq.cli.RET_CONNECT", 3),
        ("dramatiq.cli.RET_PIDFILE", 4),
    ],
)
def test_constants_have_their_values(path, value):
    module_name, _, name = path.rpartition(".")

    assert value == getattr(importlib.import_module(module_name), name)


# -- what an import does and does not do


def imported_by(statement: str, *flags: str) -> list[str]:
    program = f"import sys; before = set(sys.modules); {statement}; "
    program += "print(*sorted(set(sys.modules) - before), sep='\\n')"
    finished = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert finished.stderr == ""
    return finished.stdout.split()


def test_importing_the_package_imports_nothing_slow():
    imported = imported_by("import dramatiq")

    slow = {
        "asyncio",
        "concurrent.futures",
        "difflib",
        "email",
        "hashlib",
        "http",
        "multiprocessing",
        "pickle",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "urllib.parse",
        "unittest",
    }
    assert slow.intersection(imported) == set()


def test_importing_the_package_imports_no_client_library_and_no_edge():
    imported = imported_by("import dramatiq")

    clients = {"redis", "pika", "pylibmc", "prometheus_client", "watchdog", "watchfiles", "gevent"}
    edges = {"dramatiq.cli", "dramatiq.testing", "dramatiq.brokers", "dramatiq.brokers.stub"}
    assert (clients | edges).intersection(imported) == set()


def test_importing_the_package_needs_nothing_but_the_standard_library():
    roots = {name.partition(".")[0] for name in imported_by("import dramatiq")}

    assert roots - sys.stdlib_module_names == {"dramatiq"}


@pytest.mark.parametrize("name", REACHABLE)
def test_modules_are_reachable_without_importing_them(name):
    program = f"import dramatiq, types; assert isinstance(dramatiq.{name}, types.ModuleType)"

    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_importing_the_package_chooses_no_broker_and_starts_no_thread():
    program = (
        "import dramatiq, threading; "
        "assert dramatiq.broker.global_broker is None; "
        "assert threading.active_count() == 1"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_importing_the_package_configures_no_logging():
    program = (
        "import dramatiq, logging; "
        "assert not logging.getLogger().handlers; "
        "assert not logging.getLogger('dramatiq').handlers"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# -- deprecated and missing names


@pytest.mark.parametrize("module_name", ["dramatiq", "dramatiq.errors"])
def test_the_old_name_of_connection_errors_warns_its_caller(module_name):
    module = importlib.import_module(module_name)

    with pytest.warns(DeprecationWarning, match="BrokerConnectionError") as caught:
        found = module.ConnectionError

    assert found is dramatiq.BrokerConnectionError
    assert [__file__] == [warning.filename for warning in caught]
    assert "ConnectionError" not in module.__all__


def test_the_old_name_of_connection_errors_warns_at_every_access():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _ = dramatiq.ConnectionError
        _ = dramatiq.ConnectionError

    assert [DeprecationWarning] * 2 == [warning.category for warning in caught]


@pytest.mark.parametrize(
    "module_name",
    [
        "dramatiq",
        "dramatiq.errors",
        "dramatiq.results.backends",
        "dramatiq.rate_limits.backends",
    ],
)
def test_unknown_names_are_attribute_errors(module_name):
    module = importlib.import_module(module_name)

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


# -- signatures

REQUIRED = inspect.Parameter.empty

#: For each callable its parameters as (name, default), keyword-only ones after the "*".
SIGNATURES: dict[str, list[Any]] = {
    "dramatiq.actor": [
        ("fn", None),
        "*",
        ("actor_class", dramatiq.Actor),
        ("actor_name", None),
        ("queue_name", "default"),
        ("priority", 0),
        ("broker", None),
        "**options",
    ],
    "dramatiq.Actor": [
        "fn",
        "*",
        "broker",
        "actor_name",
        "queue_name",
        "priority",
        "options",
    ],
    "dramatiq.Actor.message": ["self", "*args", "**kwargs"],
    "dramatiq.Actor.message_with_options": [
        "self",
        "*",
        ("args", ()),
        ("kwargs", None),
        "**options",
    ],
    "dramatiq.Actor.send": ["self", "*args", "**kwargs"],
    "dramatiq.Actor.send_with_options": [
        "self",
        "*",
        ("args", ()),
        ("kwargs", None),
        ("delay", None),
        "**options",
    ],
    "dramatiq.Broker": [("middleware", None)],
    "dramatiq.Broker.add_middleware": [
        "self",
        "middleware",
        "*",
        ("before", None),
        ("after", None),
    ],
    "dramatiq.Broker.consume": ["self", "queue_name", ("prefetch", 1), ("timeout", 30_000)],
    "dramatiq.Broker.declare_actor": ["self", "actor"],
    "dramatiq.Broker.declare_queue": ["self", "queue_name"],
    "dramatiq.Broker.emit_before": ["self", "signal", "*args", "**kwargs"],
    "dramatiq.Broker.emit_after": ["self", "signal", "*args", "**kwargs"],
    "dramatiq.Broker.enqueue": ["self", "message", "*", ("delay", None)],
    "dramatiq.Broker.flush": ["self", "queue_name"],
    "dramatiq.Broker.flush_all": ["self"],
    "dramatiq.Broker.get_actor": ["self", "actor_name"],
    "dramatiq.Broker.join": ["self", "queue_name", "*", ("timeout", None)],
    "dramatiq.Consumer.ack": ["self", "message"],
    "dramatiq.Consumer.nack": ["self", "message"],
    "dramatiq.Consumer.requeue": ["self", "messages"],
    "dramatiq.Consumer.close": ["self"],
    "dramatiq.MessageProxy": ["message"],
    "dramatiq.MessageProxy.stuff_exception": ["self", "exception"],
    "dramatiq.Message.copy": ["self", "**attributes"],
    "dramatiq.Message.decode": ["data"],
    "dramatiq.Message.get_result": [
        "self",
        "*",
        ("backend", None),
        ("block", False),
        ("timeout", None),
    ],
    "dramatiq.get_logger": ["module", ("name", None)],
    "dramatiq.group": [
        *("children", "*", ("broker", None)),
        # Ours, where nobody of 2.x passes anything.
        *(("failure", "fail"), ("on_success", None), ("on_failure", None)),
    ],
    "dramatiq.group.add_completion_callback": ["self", "message"],
    "dramatiq.group.get_results": ["self", "*", ("block", False), ("timeout", None)],
    "dramatiq.group.run": ["self", "*", ("delay", None)],
    "dramatiq.group.wait": ["self", "*", ("timeout", None)],
    "dramatiq.pipeline": [
        *("children", "*", ("broker", None)),
        *(("failure", "fail"), ("on_success", None), ("on_failure", None)),
    ],
    "dramatiq.pipeline.get_result": ["self", "*", ("block", False), ("timeout", None)],
    "dramatiq.pipeline.get_results": ["self", "*", ("block", False), ("timeout", None)],
    "dramatiq.pipeline.run": ["self", "*", ("delay", None)],
    "dramatiq.asyncio.EventLoopThread": ["logger", ("interrupt_check_ival", 0.1)],
    "dramatiq.asyncio.EventLoopThread.start": ["self", "*", ("timeout", None)],
    "dramatiq.asyncio.EventLoopThread.run_coroutine": ["self", "coro"],
    "dramatiq.asyncio.async_to_sync": ["async_fn"],
    "dramatiq.brokers.stub.StubBroker": [
        ("middleware", None),
        "*",
        ("fail_fast_default", True),
    ],
    "dramatiq.brokers.stub.StubBroker.consume": [
        "self",
        "queue_name",
        ("prefetch", 1),
        ("timeout", 100),
    ],
    "dramatiq.brokers.stub.StubBroker.enqueue": ["self", "message", "*", ("delay", None)],
    "dramatiq.brokers.stub.StubBroker.join": [
        "self",
        "queue_name",
        "*",
        ("timeout", None),
        ("fail_fast", None),
    ],
    "dramatiq.canteen.canteen_get": ["canteen", ("timeout", 1)],
    "dramatiq.cli.main": [("args", None)],
    "dramatiq.cli.make_argument_parser": [],
    "dramatiq.cli.import_object": ["value"],
    "dramatiq.cli.import_broker": ["value"],
    "dramatiq.common.getenv_int": ["name"],
    "dramatiq.common.compute_backoff": [
        "attempts",
        "*",
        ("factor", 5),
        ("jitter", True),
        ("max_backoff", 2000),
        ("max_exponent", 32),
    ],
    "dramatiq.common.iter_queue": ["queue"],
    "dramatiq.common.join_queue": ["queue", ("timeout", None)],
    "dramatiq.common.join_all": ["joinables", "timeout"],
    "dramatiq.compat.StreamablePipe": ["pipe", "*", ("encoding", "utf-8")],
    "dramatiq.compat.file_or_stderr": ["filename", "*", ("mode", "a"), ("encoding", "utf-8")],
    "dramatiq.middleware.AgeLimit": ["*", ("max_age", None)],
    "dramatiq.middleware.AsyncIO": [],
    "dramatiq.middleware.Callbacks": [],
    "dramatiq.middleware.CurrentMessage": [],
    "dramatiq.middleware.GroupCallbacks": [
        "rate_limiter_backend",
        "*",
        ("barrier_ttl", 86_400_000),
    ],
    "dramatiq.middleware.Pipelines": [],
    "dramatiq.middleware.Retries": [
        "*",
        ("max_retries", 20),
        ("min_backoff", None),
        ("max_backoff", None),
        ("retry_when", None),
    ],
    "dramatiq.middleware.ShutdownNotifications": [("notify_shutdown", False)],
    "dramatiq.middleware.ShutdownNotifications.should_notify": ["self", "actor", "message"],
    "dramatiq.middleware.TimeLimit": [
        "*",
        ("time_limit", 600_000),
        ("interval", 1000),
        ("grace", 30_000),  # ours
    ],
    "dramatiq.rate_limits.Barrier": ["backend", "key", "*", ("ttl", 900_000)],
    "dramatiq.rate_limits.Barrier.create": ["self", "parties"],
    "dramatiq.rate_limits.Barrier.wait": ["self", "*", ("block", True), ("timeout", None)],
    "dramatiq.rate_limits.BucketRateLimiter": [
        "backend",
        "key",
        "*",
        ("limit", 1),
        ("bucket", 1000),
    ],
    "dramatiq.rate_limits.ConcurrentRateLimiter": [
        "backend",
        "key",
        "*",
        ("limit", 1),
        ("ttl", 900_000),
    ],
    "dramatiq.rate_limits.RateLimiter": ["backend", "key"],
    "dramatiq.rate_limits.RateLimiter.acquire": ["self", "*", ("raise_on_failure", True)],
    "dramatiq.rate_limits.WindowRateLimiter": [
        "backend",
        "key",
        "*",
        ("limit", 1),
        ("window", 1),
    ],
    "dramatiq.rate_limits.RateLimiterBackend.add": ["self", "key", "value", "ttl"],
    "dramatiq.rate_limits.RateLimiterBackend.incr": ["self", "key", "amount", "maximum", "ttl"],
    "dramatiq.rate_limits.RateLimiterBackend.decr": ["self", "key", "amount", "minimum", "ttl"],
    "dramatiq.rate_limits.RateLimiterBackend.incr_and_sum": [
        "self",
        "key",
        "keys",
        "amount",
        "maximum",
        "ttl",
    ],
    "dramatiq.rate_limits.RateLimiterBackend.wait": ["self", "key", "timeout"],
    "dramatiq.rate_limits.RateLimiterBackend.wait_notify": ["self", "key", "ttl"],
    "dramatiq.results.ResultBackend": [
        "*",
        ("namespace", "dramatiq-results"),
        ("encoder", None),
        ("use_namespace_prefix_keys", False),
    ],
    "dramatiq.results.ResultBackend.get_result": [
        "self",
        "message",
        "*",
        ("block", False),
        ("timeout", None),
    ],
    "dramatiq.results.ResultBackend.store_result": ["self", "message", "result", "ttl"],
    "dramatiq.results.ResultBackend.store_exception": ["self", "message", "exception", "ttl"],
    "dramatiq.results.ResultBackend.unwrap_result": ["self", "res"],
    "dramatiq.results.Results": [
        "*",
        "backend",
        ("store_results", False),
        ("result_ttl", None),
    ],
    "dramatiq.threading.raise_thread_exception": ["thread_id", "exception"],
    "dramatiq.worker.ConsumerThread.handle_message": ["self", "message"],
    "dramatiq.worker.ConsumerThread.post_process_message": ["self", "message"],
    "dramatiq.worker.ConsumerThread.requeue_messages": ["self", "messages"],
    "dramatiq.worker.WorkerThread.process_message": ["self", "message"],
    "dramatiq.worker.Worker.stop": ["self", ("timeout", 600_000)],
    "dramatiq.worker.WorkerThread": ["*", "broker", "consumers", "work_queue", "worker_timeout"],
}


def find(path: str) -> Any:
    """Return what a dotted path leads to; the longest prefix that is a module is imported."""
    module_name, *rest = path.split(".")
    found: Any = importlib.import_module(module_name)
    while rest and (inspect.ismodule(getattr(found, rest[0], None)) or not hasattr(found, rest[0])):
        module_name = f"{module_name}.{rest.pop(0)}"
        found = importlib.import_module(module_name)
    for name in rest:
        found = getattr(found, name)
    return found


def described(callable_: Any) -> list[Any]:
    parameters: list[Any] = []
    is_keyword_only = False
    for parameter in inspect.signature(callable_).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            parameters.append(f"*{parameter.name}")
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            parameters.append(f"**{parameter.name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword_only:
            parameters.append("*")
            is_keyword_only = True
        is_required = parameter.default is REQUIRED
        parameters.append(parameter.name if is_required else (parameter.name, parameter.default))
    return parameters


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures_are_what_callers_rely_on(path):
    assert SIGNATURES[path] == described(find(path))


def test_a_worker_takes_its_arguments_by_keyword():
    parameters = inspect.signature(dramatiq.Worker).parameters

    assert ["broker", "queues", "worker_timeout", "worker_threads"] == list(parameters)[:4]
    assert (None, 1000, 8) == tuple(
        parameters[name].default for name in ("queues", "worker_timeout", "worker_threads")
    )
    assert all(
        parameter.kind is parameter.KEYWORD_ONLY for parameter in list(parameters.values())[1:]
    )


def test_a_consumer_thread_takes_its_arguments_by_keyword():
    parameters = inspect.signature(dramatiq.ConsumerThread).parameters

    required = [name for name, each in parameters.items() if each.default is REQUIRED]
    assert ["broker", "queue_name", "prefetch", "work_queue", "worker_timeout"] == required
    assert all(each.kind is each.KEYWORD_ONLY for each in parameters.values())


HOOKS = {
    "before_declare_actor": ["actor"],
    "after_declare_actor": ["actor"],
    "before_declare_queue": ["queue_name"],
    "after_declare_queue": ["queue_name"],
    "after_declare_delay_queue": ["queue_name"],
    "before_enqueue": ["message", "delay"],
    "after_enqueue": ["message", "delay"],
    "before_delay_message": ["message"],
    "before_process_message": ["message"],
    "after_process_message": ["message", "*", ("result", None), ("exception", None)],
    "after_skip_message": ["message"],
    "before_ack": ["message"],
    "after_ack": ["message"],
    "before_nack": ["message"],
    "after_nack": ["message"],
    "after_process_boot": [],
    "before_worker_boot": ["worker"],
    "after_worker_boot": ["worker"],
    "before_worker_shutdown": ["worker"],
    "after_worker_shutdown": ["worker"],
    "after_consumer_thread_boot": ["thread"],
    "before_consumer_thread_shutdown": ["thread"],
    "after_worker_thread_boot": ["thread"],
    "before_worker_thread_shutdown": ["thread"],
}


def test_there_are_24_hooks():
    found = {name for name in vars(dramatiq.Middleware) if name.startswith(("before_", "after_"))}

    assert set(HOOKS) == found
    assert len(HOOKS) == 24


@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_take_the_broker_and_what_it_is_about(hook):
    assert ["self", "broker", *HOOKS[hook]] == described(getattr(dramatiq.Middleware, hook))


# -- attributes


@pytest.fixture
def broker():
    broker = StubBroker()
    yield broker
    broker.close()


def test_brokers_have_plain_containers(broker):
    assert ({}, {}, set()) == (broker.actors, broker.queues, broker.delay_queues)
    assert isinstance(broker.middleware, list)
    assert isinstance(broker.actor_options, set)
    assert broker.logger.name == "dramatiq.broker.StubBroker"


def test_actors_have_writable_attributes(broker):
    @dramatiq.actor(broker=broker, queue_name="low", priority=7, max_retries=3)
    def work():
        pass

    assert (broker, "work", "low", 7, {"max_retries": 3}) == (
        work.broker,
        work.actor_name,
        work.queue_name,
        work.priority,
        work.options,
    )
    for name in ("fn", "broker", "actor_name", "queue_name", "priority", "options", "logger"):
        setattr(work, name, getattr(work, name))


def test_a_worker_has_its_attributes_before_it_starts(broker):
    worker = dramatiq.Worker(broker, worker_threads=4, queues={"a", "b"})

    assert worker.broker is broker
    assert worker.logger.name == "dramatiq.worker.Worker"
    assert (1000, 4, {}, []) == (
        worker.worker_timeout,
        worker.worker_threads,
        worker.consumers,
        worker.workers,
    )
    assert worker.consumer_whitelist == {"a", "b"}
    assert (8, 4000) == (worker.queue_prefetch, worker.delay_prefetch)
    assert isinstance(worker.work_queue, queue.PriorityQueue)


def test_a_worker_of_all_queues_has_no_whitelist(broker):
    assert not dramatiq.Worker(broker).consumer_whitelist


def test_prefetch_has_a_ceiling(broker):
    worker = dramatiq.Worker(broker, worker_threads=40_000)

    assert (65_535, 65_535) == (worker.queue_prefetch, worker.delay_prefetch)


def test_work_items_are_ordered_by_priority_and_age_and_never_by_message():
    from dramatiq.worker import _WorkQueueItem

    later = _WorkQueueItem(priority=0, message=object(), _queued_time=2)
    sooner = _WorkQueueItem(priority=0, message=object(), _queued_time=1)
    less_urgent = _WorkQueueItem(priority=1, message=object(), _queued_time=0)

    assert sorted([less_urgent, later, sooner]) == [sooner, later, less_urgent]
    with pytest.raises(dataclasses.FrozenInstanceError):
        later.priority = 3


def test_middleware_keeps_what_it_was_given():
    from dramatiq.middleware import AgeLimit, Retries, ShutdownNotifications, TimeLimit

    retries = Retries(max_retries=None, min_backoff=0, max_backoff=0)

    assert AgeLimit(max_age=5).max_age == 5
    assert TimeLimit(time_limit=6).time_limit == 6
    assert hasattr(TimeLimit(), "manager")
    assert ShutdownNotifications(True).notify_shutdown is True
    assert hasattr(ShutdownNotifications(), "manager")
    assert (None, 15_000, 604_800_000, None) == (
        retries.max_retries,
        retries.min_backoff,
        retries.max_backoff,
        retries.retry_when,
    )


@pytest.mark.parametrize(
    ("class_name", "options"),
    [
        ("AgeLimit", {"max_age"}),
        ("TimeLimit", {"time_limit"}),
        ("ShutdownNotifications", {"notify_shutdown"}),
        ("Callbacks", {"on_failure", "on_success"}),
        ("Pipelines", {"pipe_ignore", "pipe_target"}),
        (
            "Retries",
            {
                "max_retries",
                "min_backoff",
                "max_backoff",
                "retry_when",
                "throws",
                "on_retry_exhausted",
            },
        ),
        ("AsyncIO", set()),
        ("CurrentMessage", set()),
    ],
)
def test_middleware_adds_its_options(class_name, options):
    from dramatiq import middleware

    assert options == getattr(middleware, class_name)().actor_options


# -- pickling


def module_level_work():
    pass


@pytest.mark.parametrize(
    "error",
    [
        dramatiq.DramatiqError("text"),
        dramatiq.Retry("again", delay=3),
        dramatiq.Retry(delay=3),
        dramatiq.ActorNotFound("name"),
        dramatiq.DecodeError("text", b"data", None),
        dramatiq.QueueJoinTimeout("queue"),
    ],
    ids=repr,
)
def test_errors_survive_pickling(error):
    copied = pickle.loads(pickle.dumps(error))

    assert type(error) is type(copied)
    assert (error.args, vars(error), str(error)) == (copied.args, vars(copied), str(copied))


def test_messages_survive_pickling(broker):
    work = dramatiq.actor(module_level_work, broker=broker)
    message = work.message_with_options(args=(1,), kwargs={"two": 2}, extra="option")

    assert message == pickle.loads(pickle.dumps(message))


def test_results_failures_survive_pickling():
    from dramatiq.results import ResultFailure

    error = ResultFailure("actor raised X: y", orig_exc_type="X", orig_exc_msg="y")

    copied = pickle.loads(pickle.dumps(error))
    assert ("X", "y", str(error)) == (copied.orig_exc_type, copied.orig_exc_msg, str(copied))


def test_actors_pickle_as_references_to_the_declared_one(broker, monkeypatch):
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    work = dramatiq.actor(module_level_work)

    assert pickle.loads(pickle.dumps(work)) is work
