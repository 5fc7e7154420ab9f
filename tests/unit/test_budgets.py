"""Budgets: the figure of the environment, past cases first, a line that says what was reached."""

import random

import pytest

from support import budgets
from support.budgets import Budget

FIGURES = {"small": 3, "default": 20, "crash": 300, "long": 4000}


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LSMDBM_BUDGET", "small")
    monkeypatch.setenv("LSMDBM_SEED", "17")
    monkeypatch.delenv("LSMDBM_T99", raising=False)
    monkeypatch.setattr(budgets, "past_cases", lambda label: [])


def reached(**options):
    with Budget("T99", **FIGURES, **options) as reach:
        return list(reach)


@pytest.mark.parametrize("name", FIGURES)
def test_the_environment_names_the_figure(monkeypatch, name):
    monkeypatch.setenv("LSMDBM_BUDGET", name)

    assert FIGURES[name] == len(reached())


def test_a_variable_of_the_suite_replaces_its_figure(monkeypatch):
    monkeypatch.setenv("LSMDBM_T99", "7")

    assert 7 == len(reached())


def test_a_figure_in_seconds_ends_when_they_have_passed(monkeypatch):
    monkeypatch.setenv("LSMDBM_T99", "90s")
    clock = [1000.0]
    monkeypatch.setattr(budgets.time, "monotonic", lambda: clock[0])
    cases = []
    with Budget("T99", **FIGURES) as reach:
        for case in reach:
            cases.append(case)
            clock[0] += 30

    assert 3 == len(cases)


@pytest.mark.parametrize("figure", ["many", "5m", "s", "1e3"])
def test_a_figure_that_is_none_is_refused_by_name(monkeypatch, figure):
    monkeypatch.setenv("LSMDBM_T99", figure)
    with pytest.raises(ValueError, match=f"LSMDBM_T99='{figure}'"):
        Budget("T99", **FIGURES)


def test_cases_follow_from_the_seed_and_differ():
    assert ["T99 17-0", "T99 17-1", "T99 17-2"] == reached()


def test_parts_share_the_figure_and_draw_other_numbers(monkeypatch):
    monkeypatch.setenv("LSMDBM_BUDGET", "default")
    halves = reached(part="here", share=0.5), reached(part="there", share=0.5)

    assert [10, 10] == [len(half) for half in halves]
    assert not {random.Random(case).random() for case in halves[0]} & {
        random.Random(case).random() for case in halves[1]
    }


def test_a_share_is_never_nothing():
    assert 1 == len(reached(share=0.01))


def test_a_case_may_count_more_than_one():
    with Budget("T99", **FIGURES) as reach:
        for _ in reach:
            reach.count(number=2)

    assert 4 == reach.reached


def test_past_cases_come_first_and_all_of_them(monkeypatch):
    monkeypatch.setattr(budgets, "past_cases", lambda label: [f"{label} {number}-9" for number in range(5)])

    assert ["T99 0-9", "T99 1-9", "T99 2-9", "T99 3-9", "T99 4-9"] == reached()


def test_past_cases_are_those_of_the_part(tmp_path):
    path = tmp_path / "past_cases.txt"
    path.write_text("# heading\nT99 1-2 # a hole\n\nT99 part 3-4\nT9 5-6\n")

    assert [["T99 1-2"], ["T99 part 3-4"]] == [
        budgets.past_cases_in(path, label) for label in ("T99", "T99 part")
    ]


def test_the_end_says_seed_count_and_failures(capsys):
    with Budget("T99", **FIGURES, unit="files") as reach:
        for _ in reach:
            reach.count("bytes", 5)

    assert "T99: seed 17, 3 files, 0 failures, 15 bytes\n" == capsys.readouterr().out


def test_a_failure_names_its_case(capsys):
    with pytest.raises(ZeroDivisionError), Budget("T99", **FIGURES) as reach:
        for case in reach:
            1 / (not case.endswith("-1"))

    assert [
        "T99: seed 17, 1 states, 1 failures",
        "Once it is mended, add to past_cases.txt: T99 17-1",
    ] == capsys.readouterr().out.splitlines()
