from __future__ import annotations

import sys
import textwrap

import pytest

import dramatiq
from dramatiq.cli import import_broker, import_object
from dramatiq.cli.failures import exit_code_for, explain
from dramatiq.cli.summary import describe_broker, mask_password, warn_about_queues

APPLICATION = """
    import dramatiq
    from dramatiq.brokers.stub import StubBroker

    class Holder:
        broker = StubBroker(middleware=[])
        other = object()

    main_broker = StubBroker(middleware=[])

    def setup():
        dramatiq.set_broker(main_broker)
        return "ignored"

    @dramatiq.actor(broker=main_broker)
    def add(a, b):
        return a + b

    @dramatiq.actor(broker=main_broker, queue_name="mail")
    def send_mail():
        pass
"""


@pytest.fixture
def application(tmp_path, monkeypatch):
    """A directory with modules, first on the import path."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(APPLICATION))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "tasks.py").write_text("value = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dramatiq.broker.global_broker
    known = set(sys.modules)
    yield tmp_path
    dramatiq.broker.global_broker = before
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.usefixtures("application")
class TestImportObject:
    def test_a_module_alone_has_no_object(self):
        module, found = import_object("package.tasks")

        assert module.value == 1
        assert found is None

    def test_variables_may_have_dots(self):
        module, found = import_object("shop:Holder.broker")

        assert found is module.Holder.broker

    def test_an_unknown_variable_is_named_with_the_one_that_was_probably_meant(self):
        with pytest.raises(ImportError) as error_info:
            import_object("shop:main_brocker")

        text = str(error_info.value)
        assert "Module 'shop' does not define a 'main_brocker' variable." in text
        assert "Did you mean 'main_broker'?" in text
        assert "Brokers in it: shop:main_broker." in text

    def test_an_unknown_variable_of_an_object_is_named_in_full(self):
        with pytest.raises(ImportError) as error_info:
            import_object("shop:Holder.brokr")

        assert str(error_info.value).startswith(
            "Module 'shop' does not define a 'Holder.brokr' variable. Did you mean 'broker'?"
        )

    @pytest.mark.parametrize(
        ("given", "meant"),
        [("shp", "shop"), ("pakage.tasks", "package"), ("package.task", "tasks")],
    )
    def test_a_typo_in_a_module_is_answered_by_a_suggestion(self, application, given, meant):
        with pytest.raises(ImportError) as error_info:
            import_object(given)

        text = str(error_info.value)
        assert f"Cannot import {given!r} from {application}." in text
        assert f"Did you mean {meant!r}?" in text

    def test_a_missing_module_that_the_application_imports_is_its_own_story(self, application):
        (application / "needy.py").write_text("import surely_not_installed\n")

        with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
            import_object("needy")

    @pytest.mark.parametrize(
        ("given", "instead"),
        [
            ("shop.py", "dramatiq shop`"),
            ("./shop.py", "dramatiq shop`"),
            ("./shop", "dramatiq shop`"),
            ("package/tasks.py", "dramatiq package.tasks`"),
            ("shop.py:main_broker", "dramatiq shop:main_broker`"),
            ("../other/shop.py", "dramatiq shop --path ../other`"),
            ("/srv/app/shop.py", "dramatiq shop --path /srv/app`"),
        ],
    )
    def test_a_file_is_answered_by_the_module_to_name_instead(self, given, instead):
        with pytest.raises(ImportError) as error_info:
            import_object(given)

        assert "is a file" in str(error_info.value)
        assert instead in str(error_info.value)
        assert "shop" not in sys.modules


@pytest.mark.usefixtures("application")
class TestImportBroker:
    def test_a_broker_is_returned(self):
        module, broker = import_broker("shop:main_broker")

        assert broker is module.main_broker

    def test_a_callable_sets_up_the_global_broker(self):
        module, broker = import_broker("shop:setup")

        assert broker is module.main_broker

    def test_a_module_alone_means_the_global_broker(self):
        dramatiq.set_broker(import_broker("shop:Holder.broker")[1])

        _, broker = import_broker("shop")

        assert broker is dramatiq.get_broker()

    def test_another_object_is_refused_with_its_type(self):
        with pytest.raises(ImportError) as error_info:
            import_broker("shop:Holder.other")

        assert "'shop:Holder.other' is not a Broker." in str(error_info.value)
        assert "'object'" in str(error_info.value)

    def test_an_actor_is_recognised(self):
        with pytest.raises(ImportError) as error_info:
            import_broker("shop:add")

        assert "It is an actor: run `dramatiq shop`" in str(error_info.value)


class TestExplain:
    def failure(self, application, source):
        (application / "broken.py").write_text(textwrap.dedent(source))
        with pytest.raises(BaseException) as error_info:  # noqa: PT011 - whatever the module raises
            import_object("broken")
        error = error_info.value
        return error.with_traceback(error.__traceback__.tb_next)  # without the frame above

    def test_only_frames_from_the_users_file_down_are_shown(self, application):
        error = self.failure(application, "def f():\n    raise KeyError('home')\n\nf()\n")

        text = explain(error, is_verbose=False)

        assert "importlib" not in text
        assert "imports.py" not in text
        assert text.count("File ") == 2
        assert text.endswith("KeyError: 'home'")
        assert exit_code_for(error) == 1

    def test_all_frames_are_shown_on_demand(self, application):
        error = self.failure(application, "1 / 0")

        text = explain(error, is_verbose=True)

        assert "importlib" in text
        assert text.endswith("ZeroDivisionError: division by zero")

    def test_the_cause_of_an_error_is_shown_too(self, application):
        error = self.failure(
            application,
            """
            try:
                import surely_not_installed
            except ImportError as error:
                raise RuntimeError("install it") from error
            """,
        )

        text = explain(error, is_verbose=False)

        assert "No module named 'surely_not_installed'" in text
        assert "RuntimeError: install it" in text
        assert "importlib" not in text

    def test_a_syntax_error_shows_the_line(self, application):
        text = explain(self.failure(application, "def f(:\n"), is_verbose=False)

        assert 'broken.py", line 1' in text
        assert "SyntaxError" in text

    def test_leaving_the_interpreter_is_named_as_such(self, application):
        error = self.failure(application, "import sys\nsys.exit('no settings')\n")

        text = explain(error, is_verbose=False)

        assert "called sys.exit('no settings')" in text
        assert 'broken.py", line 2' in text
        assert exit_code_for(error) == 1

    def test_an_unreachable_broker_has_its_own_code_and_a_hint(self, application):
        error = self.failure(
            application, "import dramatiq\nraise dramatiq.ConnectionFailed('refused')\n"
        )

        text = explain(error, is_verbose=False)

        assert "ConnectionFailed: refused (Is the server running?" in text
        assert exit_code_for(error) == 3

    def test_our_own_import_errors_are_one_line(self):
        with pytest.raises(ImportError) as error_info:
            import_object("surely_not_there")

        error = error_info.value.with_traceback(error_info.value.__traceback__.tb_next)
        assert "\n" not in explain(error, is_verbose=False)
        assert exit_code_for(error) == 2


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://user:secret@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:secret@host", "redis://:***@host"),
        ("amqp://user:s/e@c@host", "amqp://user:***@host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("sqlite:///dramatiq.db", "sqlite:///dramatiq.db"),
    ],
)
def test_passwords_are_masked(url, masked):
    assert mask_password(url) == masked


@pytest.mark.usefixtures("application")
def test_a_broker_is_described_by_class_and_address():
    _, broker = import_broker("shop:main_broker")
    plain = describe_broker(broker)
    broker.display_url = "redis://:secret@host/0"

    assert plain.startswith("StubBroker")
    assert describe_broker(broker) == "StubBroker at redis://:***@host/0"


@pytest.mark.usefixtures("application")
def test_a_queue_that_no_actor_uses_is_probably_a_typo():
    _, broker = import_broker("shop:main_broker")

    assert warn_about_queues(broker, None) == []
    assert warn_about_queues(broker, ["mail", "defualt"]) == [
        "No actor uses queue 'defualt' (known: default, mail). Did you mean 'default'?"
    ]
