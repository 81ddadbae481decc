"""The Django integration, in a project with a database and, where it matters, a worker process that `manage.py` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests._waiting import eventually

ROOT = Path(__file__).parent.parent.parent

FILES = {
    "manage.py": """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "settings.py": """
import os
from datetime import timedelta
SECRET_KEY = "x"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["docket.integrations.django", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(os.path.dirname(__file__), "db.sqlite3"), "OPTIONS": {"timeout": 20}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DOCKET = {
    "NAME": os.environ["SHOP_DOCKET"],
    "URL": os.environ["SHOP_URL"],
    "EXECUTION_TTL": timedelta(minutes=5),
    "WORKER": {"CONCURRENCY": 3, "GRACE_PERIOD": timedelta(seconds=5)},
}
""",
    "shop/__init__.py": "",
    "shop/models.py": """
from django.db import models

class Order(models.Model):
    paid = models.BooleanField(default=False)
    payer = models.TextField(default="")
    note = models.TextField(default="")
""",
    "shop/tasks.py": """
import asyncio, sqlite3, threading
from docket import CurrentWorker, Worker
from docket.integrations.django import docket
from asgiref.sync import sync_to_async
from django.db import connection
from shop.models import Order

def is_open():
    return connection.connection is not None

@docket.task
def pay(order_id: int, worker: Worker = CurrentWorker()) -> str:
    assert not is_open(), "a connection was left by whoever had this thread before"
    Order.objects.filter(pk=order_id).update(paid=True, payer=f"{worker.name} {worker.concurrency}")
    assert is_open()
    assert len(connection.queries) == 1, "queries of runs before this one are still there"
    return threading.current_thread().name

used = set()

@docket.task
async def note(order_id: int) -> str:
    assert not await sync_to_async(is_open)()
    async for order in Order.objects.filter(pk=order_id).aiterator(chunk_size=1):
        await Order.objects.filter(pk=order.pk).aupdate(note="noted")
    assert await sync_to_async(is_open)()
    used.add(await sync_to_async(lambda: connection.connection)())
    return await sync_to_async(lambda: threading.current_thread().name)()

@docket.task
async def all_closed(number: int) -> str:
    while len(used) < number or not all(map(is_closed, used)):
        await asyncio.sleep(0.01)
    return "all closed"

def is_closed(connection) -> bool:
    try:
        connection.total_changes
    except sqlite3.ProgrammingError:
        return True
    return False

@docket.task
def keyed(key: str) -> str:
    return key
""",
}

SET_UP = """
import django
django.setup()
from datetime import timedelta
from django.db import transaction
from docket import task
from docket.integrations.django import docket, get_docket, schedule_on_commit
from shop.models import Order
from shop.tasks import keyed, note, pay, all_closed
HOUR = timedelta(hours=1)
client = docket.sync()
"""


class Project:
    """This is a Django project in a folder of its own."""

    def __init__(self, folder: Path, docket: str, url: str) -> None:
        for name, text in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{folder}",
            "DJANGO_SETTINGS_MODULE": "settings",
            "SHOP_DOCKET": docket,
            "SHOP_URL": url,
            "DOCKET_URL": "redis://nowhere.invalid",  # the settings count
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", *words], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=50)
        assert process.returncode == 0, out + err
        return out + err

    def manage(self, *words: str) -> str:
        return self.run("manage.py", *words)

    def python(self, program: str) -> str:
        (self.folder / "program.py").write_text(SET_UP + program)
        return self.run("program.py")


@pytest.fixture
def make_project(tmp_path: Path, docket_name: str, url: str) -> Callable[[], Project]:
    def make() -> Project:
        project = Project(tmp_path, docket_name, url)
        project.manage("migrate", "--run-syncdb", "--verbosity", "0")
        return project

    return make


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    return make_project()


def test_a_task_is_scheduled_when_its_transaction_commits_and_not_when_it_is_rolled_back(project: Project):
    project.python("""
with transaction.atomic():
    order = Order.objects.create()
    call = schedule_on_commit(pay, order.pk, key=f"pay-{order.pk}", when=HOUR)
    assert call.key == f"pay-{order.pk}"
    assert client.get_execution(call.key) is None
execution = client.get_execution(call.key)
assert execution.args == (order.pk,) and execution.state.value == "scheduled"

try:
    with transaction.atomic():
        schedule_on_commit(pay, order_id=2, key="rolled back")
        raise LookupError
except LookupError:
    pass
assert client.get_execution("rolled back") is None

at_once = schedule_on_commit(pay.options(key="at once", when=HOUR).call(3), using="default")
assert client.get_execution("at once").args == (3,)
schedule_on_commit("pay", 4, key="by name", when=HOUR)
schedule_on_commit(docket.add(pay), 5, key="as added", when=HOUR)

@task
def nobodys() -> None: ...

schedule_on_commit(nobodys, key="nobodys", when=HOUR)
assert {execution.key for execution in client.executions()} == {"pay-1", "at once", "by name", "as added", "nobodys"}
client.clear()
""")


def test_what_is_wrong_with_a_call_is_said_while_the_transaction_can_be_undone(project: Project):
    project.python("""
from docket.errors import InvalidArguments, InvalidSchedule, NotSerializable

def refused(expected, *args, **kwargs):
    try:
        with transaction.atomic():
            Order.objects.create()
            schedule_on_commit(*args, **kwargs)
    except expected:
        assert Order.objects.count() == 0
        return
    raise AssertionError(expected)

refused(InvalidArguments, pay)
refused(NotSerializable, pay, (number for number in ()))
refused(InvalidSchedule, keyed, "mine", key="k")
schedule_on_commit(keyed.options(key="k", when=HOUR).call(key="mine"))
assert client.get_execution("k").kwargs == {"key": "mine"}
client.clear()
""")


@pytest.mark.only_memory("nothing is there")
def test_an_outage_at_the_commit_is_raised_or_logged_and_the_transaction_stands(tmp_path: Path, docket_name: str, url: str):
    project = Project(tmp_path, docket_name, "redis://127.0.0.1:1")
    project.manage("migrate", "--run-syncdb", "--verbosity", "0")

    log = project.python("""
from docket.errors import RedisUnavailable
try:
    with transaction.atomic():
        schedule_on_commit(pay, Order.objects.create().pk)
except RedisUnavailable:
    assert Order.objects.count() == 1
else:
    raise AssertionError
with transaction.atomic():
    schedule_on_commit(pay, Order.objects.create().pk, robust=True)
assert Order.objects.count() == 2
""")

    assert "RedisUnavailable" in log


@pytest.mark.only_server("the worker is a process of its own")
def test_the_management_command_runs_what_a_view_scheduled(project: Project):
    project.python("""
orders = [Order.objects.create() for _ in range(10)]
for order in orders:
    schedule_on_commit(pay, order.pk, key=f"pay-{order.pk}")
for order in orders:
    schedule_on_commit(note, order.pk, key=f"note-{order.pk}")
schedule_on_commit(all_closed, 10, key="closed")
""")

    log = project.manage("docketworker", "--until-finished", "--name", "ours", "--concurrency", "2")

    assert "Starting worker 'ours' with the following tasks:" in log
    project.python("""
for order in Order.objects.all():
    client.get_execution(f"pay-{order.pk}").get_result()
    client.get_execution(f"note-{order.pk}").get_result()
    assert (order.paid, order.payer, order.note) == (True, "ours 2", "noted")
assert client.get_execution("closed").get_result() == "all closed"
assert client.counts().failed == 0
""")


@pytest.mark.only_server("the worker is a process of its own")
async def test_the_settings_say_how_it_works_and_logs_and_a_signal_ends_it(project: Project):
    with (project.folder / "settings.py").open("a") as settings:
        settings.write("""
LOGGING = {"version": 1, "disable_existing_loggers": False, "handlers": {"ours": {"class": "logging.FileHandler", "filename": "worker.log"}},
           "loggers": {"docket": {"handlers": ["ours"], "level": "INFO"}}}
""")
    log = project.folder / "worker.log"
    worker = project.start("manage.py", "docketworker")
    await eventually(lambda: log.exists() and "all_closed" in log.read_text())
    project.python("""
order = Order.objects.create()
client.add(pay)(order.pk).get_result(timeout=timedelta(seconds=20))
assert Order.objects.get().payer.endswith(" 3")
""")

    worker.send_signal(signal.SIGTERM)

    out, err = worker.communicate(timeout=30)
    assert (worker.returncode, out, err) == (0, "", "")
    assert "initiating graceful shutdown" in log.read_text()


@pytest.mark.only_memory("nothing connects")
def test_settings_that_are_wrong_say_what_is(project: Project):
    project.python("""
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from docket.integrations.django import worker_options

WRONG = [
    ({"NAMES": "shop"}, "settings.DOCKET has no option 'NAMES'; did you mean 'NAME'?"),
    ({"name": "shop"}, "settings.DOCKET has no option 'name'; did you mean 'NAME'?"),
    ({"XYZ": "shop"}, "settings.DOCKET has no option 'XYZ'; there are NAME, URL,"),
    ({"NAME": ""}, "settings.DOCKET: name is ''"),
    ({"RESULT_STORAGE": "nowhere:storage"}, "settings.DOCKET: Cannot load 'nowhere:storage'"),
    (["shop"], "settings.DOCKET is a list; give a dictionary"),
    ({"WORKER": {"CONCURENCY": 3}}, "settings.DOCKET['WORKER'] has no option 'CONCURENCY'; did you mean 'CONCURRENCY'?"),
]
for settings, complaint in WRONG:
    with override_settings(DOCKET=settings):
        try:
            get_docket.__wrapped__()
            worker_options()
        except ImproperlyConfigured as exc:
            assert str(exc).startswith(complaint), (str(exc), complaint)
        else:
            raise AssertionError(complaint)
""")


@pytest.mark.only_memory("nothing connects")
def test_there_is_one_docket_and_one_client_in_a_process(project: Project):
    project.python("""
import docket.integrations.django as integration
assert integration.docket is get_docket() is docket
assert docket.sync() is integration.docket.sync()
try:
    integration.nothing
except AttributeError as exc:
    assert "nothing" in str(exc)
else:
    raise AssertionError
assert {"pay", "note"} <= set(docket.tasks)
""")


@pytest.mark.only_memory("a test has a docket in memory")
def test_a_test_of_the_project_sees_what_would_be_scheduled(project: Project):
    (project.folder / "shop" / "tests.py").write_text("""
from django.test import TestCase
from docket.integrations.django import docket, schedule_on_commit
from shop.tasks import pay

class Buying(TestCase):
    def test_paying_is_scheduled(self):
        with self.captureOnCommitCallbacks(execute=True):
            schedule_on_commit(pay, 5, key="pay-5")
            self.assertIsNone(docket.sync().get_execution("pay-5"))
        self.assertEqual([execution.args for execution in docket.sync().executions()], [(5,)])
""")

    assert "Ran 1 test" in project.manage("test")
