"""An application with something on every page of the dashboard, and a server for it."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

import dramatiq
from dramatiq import group, pipeline
from dramatiq.common import current_millis
from dramatiq.history import Attempt, AttemptOutcome, History
from dramatiq.inspection import AuditEntry, Selection, State
from dramatiq.testing.waiting import wait_until
from tests.servers import free_port

#: What must stay text wherever it appears.
SCRIPT = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


class Shop:
    """A broker with actors, a history and a worker.

    Args:
        broker: A real one, on which nothing is declared yet.
        is_hostile: Whether there is an actor with scripts in its name, arguments and errors.
    """

    def __init__(self, broker, *, is_hostile=True):
        self.broker = broker
        self.is_hostile = is_hostile
        self.history = History()
        broker.add_middleware(self.history)
        self.may_end = threading.Event()
        self.is_mended = False
        self.declare()
        self.worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=4)
        self.worker.start()

    def declare(self):
        def actor(**options):
            return dramatiq.actor(broker=self.broker, **options)

        @actor(queue_name="mail", max_retries=0)
        def send_invoice(order, *, token=""):
            if order % 3 == 0 and not self.is_mended:
                raise TimeoutError(f"smtp.example.com did not answer for order {order}")

        @actor(queue_name="images")
        def resize(picture, width=800):
            pass

        @actor(queue_name="feeds", max_retries=1, min_backoff=1)
        def import_feed(url):
            raise ConnectionError(f"{url} refused the connection")

        @actor(queue_name="feeds")
        def crawl(site):
            resize.send(f"{site}/logo.png")
            self.may_end.wait(600)

        self.declare_steps(actor)
        if self.is_hostile:

            @actor(queue_name="mail", actor_name=SCRIPT, max_retries=0)
            def hostile(text):
                raise ValueError(text)

            actor(queue_name="books", actor_name=f"{SCRIPT} 2", max_retries=0)(hostile.fn)

        self.actors = self.broker.actors

    def declare_steps(self, actor):
        """Declare what workflows are made of."""

        @actor(queue_name="books", max_retries=0)
        def count_sales(*days):
            if "Sunday" in days and not self.is_mended:
                raise ValueError("the shop is closed on Sundays")
            return 7

        @actor(queue_name="books")
        def send_report(*sales):
            pass

    @property
    def inspection(self):
        return self.broker.inspection

    def fill(self):
        """Have something run, fail, wait and be dead."""
        send = self.actors.__getitem__
        for order in range(1, 13):
            send("send_invoice").send(order, token="s3cr3t-token")
        for number in range(6):
            send("resize").send(f"pictures/{number}.jpg", width=400 * number)
        send("import_feed").send("https://news.example.com/feed.xml")
        if self.is_hostile:
            send(SCRIPT).send(SCRIPT)
        wait_until(lambda: self.count_dead() == 5 + self.is_hostile)
        for queue in ("mail", "images"):
            self.broker.join(queue, timeout=20_000)
        send("crawl").send("https://shop.example.com")
        wait_until(lambda: len(self.inspection.running()) == 1)
        self.inspection.pause("images")
        self.start_workflows()
        done = (("requeue", "dead letters of queue mail", 4), ("pause", "queue images", None))
        for verb, what, count in done:
            self.inspection.note(AuditEntry(current_millis(), "ada", verb, what, count))
        for number in range(8):
            send("resize").send(f"pictures/later-{number}.jpg")
        send("send_invoice").send_with_options(args=(99,), delay=3_600_000)
        wait_until(self.history.flush)

    def start_workflows(self):
        """Have a workflow that is done, one that failed and one that runs."""
        sales, report = self.actors["count_sales"].message, self.actors["send_report"].message

        def run(*steps):
            pipeline(steps, broker=self.broker).run()

        def of(*days, **options):
            return group(map(sales, days), broker=self.broker, **options)

        week = ("Monday", "Tuesday", "Friday")
        run(of(*week), report())
        later = sales("Thursday").copy(options={"delay": 3_600_000})
        run(sales("Monday"), group([of(*week * 5), later], broker=self.broker), report())
        last = [sales("Saturday"), sales("Sunday")]
        if self.is_hostile:
            last.append(self.actors[f"{SCRIPT} 2"].message(SCRIPT))
        closed = of("Saturday", "Sunday", failure="ignore")
        doomed = group([of(*week), group(last, broker=self.broker)], broker=self.broker)
        run(closed, doomed, report())
        wait_until(lambda: self.states_of_workflows() == {"done", "failed", "running"})

    def states_of_workflows(self):
        return {flow.state.value for flow in self.inspection.workflows()[0]}

    def count_dead(self, **fields):
        return self.inspection.count_dead(Selection(**fields))

    def dead(self, **fields):
        return self.inspection.messages(State.DEAD, Selection(**fields)).items

    def seed_history(self):
        """Add an hour of attempts, for a chart that looks like something."""
        now = current_millis()
        attempts = []
        for minute in range(59, 0, -1):
            for number in range(18 + (minute * 7) % 23):
                outcome = AttemptOutcome.DONE
                if (minute + number) % 19 == 0:
                    outcome = AttemptOutcome.FAILED if number % 2 else AttemptOutcome.RETRIED
                name = ("send_invoice", "resize", "import_feed")[number % 3]
                ended_at = now - minute * 60_000
                attempts.append(
                    Attempt(
                        f"past-{minute}-{number}",
                        name,
                        "mail",
                        outcome,
                        1,
                        ended_at - 90,
                        ended_at - 60,
                        ended_at,
                        5 + (minute * number) % 90,
                    )
                )
        self.broker.history.add(attempts, ttl=86_400_000, max_records=100_000)

    def close(self):
        self.may_end.set()
        self.worker.stop()
        self.broker.close()


@contextmanager
def serve(app, path=""):
    """Serve an ASGI application on a free port; yield its URL."""
    port = free_port()
    mounted = Starlette(routes=[Mount(path or "/", app)])
    config = uvicorn.Config(mounted, port=port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        server.should_exit = True
        thread.join(10)
