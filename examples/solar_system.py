"""Tables by SQL: planets from a JSON file and moons from a CSV file, joined, grouped, and there to stay.

    pip install 'lsmdbm[sql]' && python examples/solar_system.py solar.lsm

The database is filled once; a second run finds the tables and only asks.
"""

import csv
import json
import sys
from pathlib import Path

from lsmdbm import dbapi

HERE = Path(__file__).parent

PLANETS = (
    "CREATE TABLE planets (id INTEGER PRIMARY KEY, name TEXT NOT NULL, radius_km REAL, year_days REAL, air)"
)
MOONS = """CREATE TABLE moons (planet TEXT, name TEXT, radius_km REAL NOT NULL, discovered INT,
                               discoverer TEXT DEFAULT 'nobody', PRIMARY KEY (planet, name))"""


def connect(path):
    # The air is a dict in Python, and JSON in SQL.
    return dbapi.connect(path, codecs={"planets.air": "json"})


def fill(connection):
    """Make the tables and load the files: all of it, or nothing."""
    planets = json.loads((HERE / "planets.json").read_text("utf-8"))
    with (HERE / "moons.csv").open(encoding="utf-8", newline="") as file:
        moons = [{key: value or None for key, value in row.items()} for row in csv.DictReader(file)]
    with connection:
        cursor = connection.cursor()
        cursor.execute(PLANETS)
        cursor.execute(MOONS)
        cursor.executemany("INSERT INTO planets VALUES (NULL, :name, :radius_km, :year_days, :air)", planets)
        # Numbers come as text out of a CSV file; the columns make numbers of them.
        cursor.executemany(
            "INSERT INTO moons VALUES (:planet, :name, :radius_km, :discovered, :discoverer)", moons
        )
    print(f"loaded {len(planets)} planets and {len(moons)} moons")


def show(connection, title, sql, parameters=()):
    print(f"-- {title}")
    for row in connection.cursor().execute(sql, parameters):
        print("  ", *row)


def ask(connection):
    show(
        connection,
        "moons by planet, and the largest of each",
        """SELECT p.name, count(m.name), max(m.radius_km), m.name FROM planets p
           LEFT JOIN moons m ON m.planet = p.name GROUP BY p.id ORDER BY p.id""",
    )
    show(
        connection,
        "discovered by century",
        """SELECT discovered / 100 + 1 AS century, count(*), group_concat(DISTINCT planet) FROM moons
           WHERE discovered IS NOT NULL GROUP BY century ORDER BY century""",
    )
    show(
        connection,
        "larger than the smallest planet",
        """SELECT planet, name, radius_km FROM moons
           WHERE radius_km > (SELECT min(radius_km) FROM planets) ORDER BY radius_km DESC""",
    )
    show(connection, "mostly hydrogen", "SELECT name, air FROM planets WHERE air ->> 'H2' > 50 ORDER BY name")
    # A range of the primary key: read from the store as one, backwards.
    show(
        connection,
        "the last moons of Saturn, by name",
        "SELECT name, discoverer FROM moons WHERE planet = ? AND name > ? ORDER BY planet DESC, name DESC",
        ["Saturn", "R"],
    )


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "solar.lsm"
    connection = connect(path)
    if not connection.cursor().execute("SELECT 1 FROM lsmdbm_tables WHERE name = 'moons'").fetchone():
        fill(connection)
        connection.close()
        connection = connect(path)  # what was committed is there
    ask(connection)
    connection.close()


if __name__ == "__main__":
    main()
