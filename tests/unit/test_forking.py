import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

START = """
    import os, signal, sys, threading

    class Finder:
        \"\"\"Begin to look for a module, and find it when told to.\"\"\"

        wanted = "sortedcontainers"
        begun, go = threading.Event(), threading.Event()

        def find_spec(self, name, path=None, target=None):
            if name == self.wanted:
                self.begun.set()
                self.go.wait()

    def status_of_child(work):
        signal.alarm(60)
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # not inherited; a child that hangs is killed by its own
            work()
            sys.exit(0)
        return os.waitpid(child, 0)[1]
"""


def run(source, directory):
    """Run a program of its own; fail if it does."""
    program = textwrap.dedent(START) + textwrap.dedent(source)
    words = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    assert subprocess.run(words, cwd=directory).returncode == 0


def test_a_forked_child_is_told_and_the_parent_is_not(tmp_path):
    run(
        """
        from lsmdbm._base.forking import on_fork
        told = []
        on_fork(lambda: told.append(os.getpid()))
        assert status_of_child(lambda: os._exit(told != [os.getpid()])) == 0 and told == []
        """,
        tmp_path,
    )


def test_a_fork_waits_for_what_another_thread_is_importing(tmp_path):
    run(
        """
        import lsmdbm
        db = lsmdbm.open("db", "c")
        db[b"key"] = b"value"
        sys.meta_path.insert(0, Finder())
        thread = threading.Thread(target=lambda: list(db))
        thread.start()
        Finder.begun.wait()
        os.register_at_fork(before=Finder.go.set)  # called before those registered earlier
        def use():
            with lsmdbm.open("other", "c") as own:
                own[b"key"] = b"value"
                assert list(own) == [b"key"]
        assert status_of_child(use) == 0
        thread.join()
        """,
        tmp_path,
    )


def test_a_fork_waits_for_the_first_use_of_a_name_by_another_thread(tmp_path):
    run(
        """
        import lsmdbm
        Finder.wanted = "lsmdbm.database"
        sys.meta_path.insert(0, Finder())
        thread = threading.Thread(target=lambda: lsmdbm.open)
        thread.start()
        Finder.begun.wait()
        os.register_at_fork(before=Finder.go.set)  # called before those registered earlier
        assert status_of_child(lambda: lsmdbm.open("own", "c").close()) == 0
        thread.join()
        """,
        tmp_path,
    )


def test_a_child_imports_nothing_for_the_stores_of_its_parent_when_it_ends(tmp_path):
    run(
        """
        import atexit
        atexit.register(lambda: "sortedcontainers" in sys.modules and os._exit(3))  # called last
        import lsmdbm
        db = lsmdbm.open("db", "c")
        db[b"key"] = b"value"
        assert status_of_child(lambda: None) == 0
        os._exit(0)
        """,
        tmp_path,
    )
