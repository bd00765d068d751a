"""The make targets: messages for people, an environment that is not remade, safe publication."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from tools import build, chromium, environment, notebooks, targets
from tools.environment import ROOT
from tools.messages import (
    CERTIFICATE,
    FULL,
    NO_VENV,
    NO_WHEEL,
    OFFLINE,
    Stop,
    check_port,
    explain,
    read_port,
)

# ---- Messages -----------------------------------------------------------------------------------


def test_entry_parses_on_old_pythons() -> None:
    ast.parse((ROOT / "tools" / "run.py").read_text(), feature_version=(3, 4))


def test_old_python_is_told_in_words() -> None:
    program = (
        "import runpy, sys; sys.version_info = (3, 8, 10, 'final', 0); "
        "runpy.run_path('tools/run.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is Python 3.8" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left", FULL),
        ("npm error code ENOSPC\nnpm error syscall write", FULL),
        ("npm error code EAI_AGAIN", OFFLINE),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...: Failed to "
            "establish a new connection: [Errno -3] Temporary failure in name resolution')'\n"
            "ERROR: No matching distribution found for jupyter-book==1.0.4.post1",
            OFFLINE,
        ),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", CERTIFICATE),
        ("The virtual environment was not created because ensurepip is not available.", NO_VENV),
        ("ERROR: No matching distribution found for torch==2.13.0", NO_WHEEL),
        ("ERROR: something else", None),
    ],
)
def test_failed_commands_are_explained(output: str, message: str | None) -> None:
    assert explain(output) == message


def test_taken_port_is_told_with_a_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Stop, match=rf"Port {port} cannot be used .*make serve PORT={port + 1}"):
            check_port(port, "serve")


@pytest.mark.parametrize("text", ["", "eighty", "-1", "80", "65536"])
def test_port_must_be_a_number(text: str) -> None:
    with pytest.raises(Stop, match="must be a number from 1024 to 65535"):
        read_port(text, "lab")


def test_full_disk_is_told_before_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**11, 10**11, 10**9))
    with pytest.raises(Stop, match=r"Only 1\.0 GB are free .* needs about 3 GB"):
        environment.check_space(ROOT, environment.NEEDED)


def test_full_disk_during_a_target_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(target: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(targets, "run", fail)
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert targets.main(["book"]) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert "The disk is full" in capsys.readouterr().err


def test_failed_installation_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; sys.exit('npm error code ENOTFOUND')"
    with pytest.raises(Stop, match=r"Installing failed\. The network did not answer"):
        environment.run([sys.executable, "-c", program], "Installing")


def test_unknown_target_lists_the_known() -> None:
    with pytest.raises(Stop, match=r"There is no target 'bok'\. Targets: book"):
        targets.run("bok")


def test_make_without_a_python_is_told() -> None:
    done = subprocess.run(
        ["make", "book", "PYTHON=no-such-python"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "no-such-python was not found" in done.stderr


def test_chromium_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", sys.executable)
    assert chromium.find() == sys.executable
    monkeypatch.setenv("CHROMIUM", "/no/such/browser")
    assert chromium.find() is None


# ---- The environment ----------------------------------------------------------------------------


def test_fingerprint_changes_with_what_is_installed_only(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "a"\n[tool.ruff]\nline-length = 100\n')
    (tmp_path / "requirements.txt").write_text("numpy==2\n")
    names = ["pyproject.toml", "requirements.txt"]
    first = environment.fingerprint(names, tmp_path)
    project.write_text('[project]\nname = "a"\n[tool.ruff]\nline-length = 90\n')
    assert environment.fingerprint(names, tmp_path) == first
    (tmp_path / "requirements.txt").write_text("numpy==2.1\n")
    assert environment.fingerprint(names, tmp_path) != first


def pins(name: str) -> dict[str, str]:
    """The exact pins of a requirements file."""
    lines = (
        line.split("#")[0].split(";")[0].strip() for line in (ROOT / name).read_text().splitlines()
    )
    return dict(line.split("==", 1) for line in lines if "==" in line)


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dask.txt", "requirements-dev.txt"]
)
def test_direct_requirements_are_pinned_and_locked(name: str) -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    loose = [line for line in lines if line and not line.startswith("-") and "==" not in line]
    assert not loose
    locked = pins("constraints.txt")
    assert {key: locked.get(key) for key in pins(name)} == pins(name), "run make lock"


def test_build_backend_is_the_locked_one() -> None:
    wanted = f'requires = ["setuptools=={pins("constraints.txt")["setuptools"]}"]'
    assert wanted in (ROOT / "pyproject.toml").read_text()


def test_lab_opens_sections_as_notebooks(tmp_path: Path) -> None:
    environment.write_settings(tmp_path)
    written = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    documents = json.loads(written.read_text())["@jupyterlab/docmanager-extension:plugin"]
    assert documents["defaultViewers"]["myst"] == "Jupytext Notebook"
    assert documents["autosave"] is False, "looking at a section must not change it"


def test_lab_gets_the_books_extension(tmp_path: Path) -> None:
    environment.write_settings(tmp_path)
    folder = environment.extension_folder(tmp_path)
    build = json.loads((folder / "package.json").read_text())["jupyterlab"]["_build"]
    assert (folder / build["load"]).read_bytes() == (
        ROOT / "tools" / "labextension" / "sections.js"
    ).read_bytes()


# ---- Publication --------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one section, with a last good site."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "intro.md").write_text("# Intro\n")
    (tmp_path / "_toc.yml").write_text("root: chapters/intro\n")
    site = tmp_path / "_build" / "html"
    site.mkdir(parents=True)
    (site / "index.html").write_text("last good")
    return tmp_path


def builder(book: Path, then: str) -> list[str]:
    """A stand-in for Jupyter Book: writes a staged page, then does what the test wants."""
    program = textwrap.dedent(
        """
        import pathlib, sys, time
        site = pathlib.Path("_build/stage/_build/html")
        fresh = not site.exists()
        site.mkdir(parents=True, exist_ok=True)
        (site / "index.html").write_text("fresh" if fresh else "continued")
        """
    )
    return [sys.executable, "-c", program + textwrap.dedent(then)]


def run_build(book: Path, then: str = "") -> Path:
    return build.build(book, book / "_build", builder(book, then))


def edit(book: Path) -> None:
    (book / "chapters" / "intro.md").write_text("# Introduction\n")


def test_success_replaces_the_site_and_keeps_the_stage(book: Path) -> None:
    page = run_build(book)
    assert page.read_text() == "fresh"
    edit(book)
    assert run_build(book).read_text() == "continued"
    assert sorted(path.name for path in (book / "_build").iterdir()) == ["html", "lock", "stage"]


def test_unchanged_book_is_not_built(book: Path) -> None:
    (book / "_build" / "notebooks").mkdir()
    run_build(book)
    assert run_build(book, "sys.exit('built again')").read_text() == "fresh"


def test_failure_leaves_the_last_good_site_and_repeats_its_warnings(book: Path) -> None:
    then = """
    print("intro.md:3: WARNING: equation not found", file=sys.stderr)
    print("much else", file=sys.stderr)
    sys.exit(1)
    """
    with pytest.raises(Stop) as caught:
        run_build(book, then)
    assert str(caught.value).splitlines()[-2:] == [
        "intro.md:3: WARNING: equation not found",
        "The last good site is still in place.",
    ]
    assert (book / "_build" / "html" / "index.html").read_text() == "last good"
    # A failed stage is not continued: its warnings would not be shown again.
    assert run_build(book).read_text() == "fresh"


def test_warnings_are_repeated_once_with_their_details() -> None:
    errors = (
        "loading\n\x1b[31ma.md:3: WARNING: unknown\x1b[0m\nb.md:7: ERROR: a cell failed:\n"
        "    ZeroDivisionError\nmore\na.md:3: WARNING: unknown\n"
        "RuntimeError: nothing was built\n"
    )
    assert build.warnings_in(errors) == [
        "a.md:3: WARNING: unknown",
        "b.md:7: ERROR: a cell failed:\n    ZeroDivisionError",
        "RuntimeError: nothing was built",
    ]


@pytest.mark.parametrize("changed", ["_toc.yml", "assets/book.css", "chapters/new.md"])
def test_shared_change_renders_all_pages(book: Path, changed: str) -> None:
    run_build(book)
    (book / changed).parent.mkdir(exist_ok=True)
    (book / changed).write_text("changed\n")
    assert run_build(book).read_text() == "fresh"


@pytest.mark.parametrize("changed", ["rl_helpers/mdp/planning.py", "chapters/intro.md"])
def test_helpers_and_sections_render_only_their_pages(book: Path, changed: str) -> None:
    """The stage goes on: extensions/execution.py finds the pages."""
    run_build(book)
    (book / changed).parent.mkdir(parents=True, exist_ok=True)
    (book / changed).write_text("changed\n")
    assert run_build(book).read_text() == "continued"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interruption_leaves_the_last_good_site(book: Path, number: signal.Signals) -> None:
    then = "(site / 'started').touch()\ntime.sleep(60)"
    program = textwrap.dedent(
        f"""
        import pathlib, signal, sys
        from tools import build, targets
        # A run in the background ignores Ctrl-C, and its children inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        book = pathlib.Path({str(book)!r})
        targets.run = lambda _: build.build(book, book / "_build", {builder(book, then)!r})
        sys.exit(targets.main(["book"]))
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    started = book / "_build" / "stage" / "_build" / "html" / "started"
    deadline = time.monotonic() + 20
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Interrupted: the last good site is still in place" in errors
    assert "Traceback" not in errors.split("Interrupted")[1]
    assert (book / "_build" / "html" / "index.html").read_text() == "last good"
    assert run_build(book).read_text() == "fresh"


def test_publication_interrupted_between_its_renames_is_undone(book: Path) -> None:
    site = book / "_build" / "html"
    site.rename(site.with_name("html.old"))
    with pytest.raises(Stop):
        run_build(book, "sys.exit(1)")
    assert (site / "index.html").read_text() == "last good"


def test_removed_files_leave_the_site(book: Path) -> None:
    run_build(book, "(site / 'gone.html').touch()")
    (book / "_toc.yml").write_text("root: chapters/other\n")
    run_build(book)
    assert not (book / "_build" / "html" / "gone.html").exists()


def test_second_build_waits_for_the_first(book: Path) -> None:
    site = book / "_build" / "html" / "index.html"
    second = threading.Thread(target=run_build, args=[book])
    with build.only_one(book / "_build"):
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive()
        assert site.read_text() == "last good"
    second.join(timeout=20)
    assert site.read_text() == "fresh"


# ---- Notebooks for the branch that Colab opens ---------------------------------------------------


def test_the_sites_notebooks_are_copied_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "html" / "chapters" / "part" / "one.ipynb"
    page.parent.mkdir(parents=True)
    page.write_text("a notebook")
    page.with_suffix(".html").write_text("its page")
    out = tmp_path / "out"
    assert notebooks.copy(out, tmp_path / "html") == [out / "chapters" / "part" / "one.ipynb"]
    copied = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert copied == {"README.md", "chapters/part/one.ipynb"}


def test_without_a_site_nothing_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOOK_BUILD_DIR", str(tmp_path))
    assert notebooks.main([str(tmp_path / "out")]) == 1
    assert "make book" in capsys.readouterr().err


def test_conversion_without_a_folder_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert notebooks.main([]) == 2
    assert "FOLDER" in capsys.readouterr().err


def test_commands_see_the_environment_first() -> None:
    env = environment.variables(BOOK_STATIC="1")
    assert env["PATH"].split(os.pathsep)[0] == str(environment.VENV / "bin")
    assert env["BOOK_STATIC"] == "1"
