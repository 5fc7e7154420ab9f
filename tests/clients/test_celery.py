"""celery beat keeps its schedule in lsmdbm: a PersistentScheduler whose `persistence` is lsmdbm.shelve."""

import signal
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest

import lsmdbm
from support.clients import client, finish, shown

celery = client("celery")
beat = client("celery.beat")
state = client("celery.worker.state")

APPLICATION = f"""
import os
from celery import Celery
from celery.signals import after_task_publish
{shown("celery beat")}
app = Celery("application", broker="memory://")
app.conf.update(
    beat_schedule=dict(
        often=dict(task="tasks.often", schedule=0.05),
        rarely=dict(task="tasks.rarely", schedule=86400.0),
    ),
    beat_max_loop_interval=0.05,
    beat_sync_every=int(os.environ["SYNC_EVERY"]),
)

@after_task_publish.connect
def say(sender, **_):
    os.write(1, f"sent {{sender}}\\n".encode())
"""


class Scheduler(beat.PersistentScheduler):
    persistence = SimpleNamespace(open=partial(lsmdbm.open_shelf, timeout=0))  # does not wait for a lock


@pytest.fixture
def app():
    with celery.Celery("here", broker="memory://", set_as_current=False) as application:
        application.conf.beat_schedule = {
            "now": {"task": "tasks.now", "schedule": 0.0, "args": (1, "two")},
            "daily": {"task": "tasks.daily", "schedule": celery.schedules.crontab(hour=4, minute=30)},
        }
        yield application


@pytest.fixture
def begin(tmp_path, path, start, monkeypatch):
    """Start `celery beat`, and wait until it has sent a number of tasks.

    Beat's handler of SIGTERM closes the schedule.  It does not come in the middle of a sync here, but in the
    test that asks for one after each task, and uses SIGKILL.
    """
    (tmp_path / "application.py").write_text(APPLICATION)

    def begin_one(count, sync_every=0):
        monkeypatch.setenv("SYNC_EVERY", str(sync_every))
        beat_with = ["beat", "-S", "application:Scheduler", "-s", path]
        process = start("-m", "celery", "-q", "-A", "application", *beat_with)
        for _ in range(count):
            assert "sent tasks.often\n" == process.stdout.readline()
        return process

    return begin_one


def entries(path):
    """What a beat has left: of each entry, how often it ran, and when it did so last."""
    with lsmdbm.open_shelf(path, "r") as shelf:
        found = shelf["entries"].items()
        return {name: (entry.total_run_count, entry.last_run_at) for name, entry in found}


def test_a_beat_goes_on_where_the_last_one_stopped(path, begin):
    seen = []
    for _ in range(2):
        process = begin(3)
        process.send_signal(signal.SIGTERM)
        assert 0 == finish(process)[0]
        seen.append(entries(path))

    first, second = seen
    assert first["often"][0] >= 3
    assert second["often"][0] >= first["often"][0] + 3
    assert second["often"][1] > first["often"][1]
    assert first["rarely"] == second["rarely"]  # its day began with the first beat
    assert "lsmdbm" == lsmdbm.whichdb(path)


def test_a_beat_that_was_killed_keeps_what_it_had_synced(path, begin):
    process = begin(5, sync_every=1)

    process.kill()
    process.wait()
    count, last = entries(path)["often"]
    assert count >= 4  # it syncs after each task, and says that one is sent before
    begin(1, sync_every=1).kill()
    again, later = entries(path)["often"]
    assert again >= count
    assert later >= last


def test_a_second_beat_is_told_so_and_removes_nothing(path, begin, app):
    process = begin(2)

    # Beat takes any error for a damaged file, and tries to remove that: a directory stays where it is.
    with pytest.raises((IsADirectoryError, PermissionError)) as caught:
        Scheduler(app=app, schedule_filename=path)
    assert isinstance(caught.value.__context__, lsmdbm.LockedError)
    assert "sent tasks.often\n" == process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert 0 == finish(process)[0]
    assert {"often", "rarely", "celery.backend_cleanup"} >= set(entries(path)) >= {"often", "rarely"}


def test_entries_come_back_as_they_were(path, app):
    scheduler = Scheduler(app=app, schedule_filename=path)
    for _ in range(3):
        scheduler.tick()
    ran = scheduler.schedule["now"]
    scheduler.close()

    again = Scheduler(app=app, schedule_filename=path)
    assert ran.total_run_count >= 1
    assert (ran.total_run_count, ran.last_run_at) == (
        again.schedule["now"].total_run_count,
        again.schedule["now"].last_run_at,
    )
    assert ("tasks.now", (1, "two")) == (again.schedule["now"].task, again.schedule["now"].args)
    assert celery.schedules.crontab(hour=4, minute=30) == again.schedule["daily"].schedule
    again.close()


def test_a_changed_configuration_is_merged_into_the_schedule(path, app):
    first = Scheduler(app=app, schedule_filename=path)
    first.tick()
    first.close()
    before = entries(path)

    del app.conf.beat_schedule["daily"]
    app.conf.beat_schedule["hourly"] = {"task": "tasks.hourly", "schedule": timedelta(hours=1)}
    app.conf.beat_schedule["now"]["task"] = "tasks.renamed"
    second = Scheduler(app=app, schedule_filename=path)
    assert "tasks.renamed" == second.schedule["now"].task
    second.close()
    assert {"now", "hourly"} == set(entries(path)) - {"celery.backend_cleanup"}
    assert before["now"] == entries(path)["now"]


def test_a_changed_timezone_begins_the_schedule_anew(path, app):
    app.conf.timezone = "Europe/Paris"
    first = Scheduler(app=app, schedule_filename=path)
    for _ in range(3):
        first.tick()
    first.close()
    assert entries(path)["now"][0] > 0

    app.conf.timezone = "Asia/Tokyo"
    second = Scheduler(app=app, schedule_filename=path)
    second.close()
    assert {"now", "daily"} <= set(entries(path))
    assert 0 == entries(path)["now"][0]
    with lsmdbm.open_shelf(path, "r") as shelf:
        assert "Asia/Tokyo" == str(shelf["tz"])


def test_a_worker_keeps_which_tasks_are_revoked(path, monkeypatch):
    monkeypatch.setattr(state.Persistent, "storage", lsmdbm.shelve)
    monkeypatch.setattr(state, "revoked", type(state.revoked)())
    state.revoked.add("task")
    state.Persistent(state, path).save()
    state.revoked.clear()

    kept = state.Persistent(state, path)
    kept.merge()
    kept.close()
    assert "task" in state.revoked
    assert "lsmdbm" == lsmdbm.whichdb(path)
