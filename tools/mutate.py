"""How many small mistakes in `rl_helpers` are noticed: a random sample of mutants, two at a time.

Each mutant is planted in a copy of the book. First the doctests and unit tests of its module run,
those named like it first, up to the first failure; then, if all passed, the cells of every section
that uses the module, as a script, whose checks may stop it. What passes both has survived: a line
that no test reads, or a mutant that does the same, which `tools/equivalent_mutants.toml` then lists
with the reason.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from extensions import keys
from tools import leftovers, sources
from tools.environment import ROOT, python, variables
from tools.messages import Stop
from tools.mutants import Mutant, mutants

COPIED = [
    "_toc.yml",
    "chapters",
    "rl_helpers",
    "tests",
    "tools",
    "extensions",
    "assets",
    "benchmarks",
    "conftest.py",
    "pyproject.toml",
]
# Folders of the tests that are quick.
FOLDERS = [
    "instruments",
    "mdp",
    "training",
    "policy_gradients",
    "planning_as_inference",
    "rlhf",
    "outlook",
]
# Mistakes that a test plants are looked for in the source, where a mutant would be in the way.
LEFT_OUT = ("-k", "not test_a_mistake_in")
WORKERS = 2  # processes at once
CPU_LIMIT = 900  # CPU seconds of one run, several times what all tests take: it does not end
WALL_LIMIT = 3_600  # seconds of one run, on however busy a machine
UNDECIDED = "undecided"  # no answer in time, or not the same one twice
EQUIVALENT = ROOT / "tools" / "equivalent_mutants.toml"


@cache
def used(path: Path) -> frozenset[str]:
    """Files of `rl_helpers` that a test or a section imports, directly or through others."""
    text = path.read_text("utf8")
    code = [cell.code for cell in sources.cells(text)] if path.suffix == ".md" else [text]
    return frozenset(found.relative_to(ROOT).as_posix() for found in keys.helpers(ROOT, code))


def relevant_tests(file: str) -> list[str]:
    """Doctests and tests of a file: those named like it, those beside them, then all that use it."""
    own, folder = f"test_{Path(file).stem}.py", Path(file).parent.name
    folder = "instruments" if folder == "rl_helpers" else folder
    tests = [path for name in FOLDERS for path in sorted((ROOT / "tests" / name).glob("test_*.py"))]
    tests = [path for path in tests if file in used(path)]
    tests.sort(key=lambda path: (path.name != own, path.parent.name != folder))
    return [file, *(path.relative_to(ROOT).as_posix() for path in tests)]


def relevant_sections(file: str) -> list[Path]:
    """The sections that use a file."""
    return [path for path in leftovers.pages() if file in used(path)]


def trouble(copy: Path, *words: str) -> str:
    """Why a command of the environment's Python fails in a copy of the book; empty if it does not.

    A run that computes without end has failed. One that only waits, or is ended by another signal,
    says nothing of the mutant: the machine may be busy, or somebody stopped it.
    """
    env = variables(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1")
    limited = ["sh", "-c", 'ulimit -S -t "$0" && exec "$@"', str(CPU_LIMIT), python(), *words]
    try:
        done = subprocess.run(
            limited, cwd=copy, env=env, capture_output=True, text=True, timeout=WALL_LIMIT
        )
    except subprocess.TimeoutExpired:
        return UNDECIDED
    if done.returncode == -signal.SIGXCPU:
        return f"no end after {CPU_LIMIT} CPU seconds"
    if done.returncode < 0:
        return UNDECIDED
    said = (done.stderr.strip() or done.stdout.strip()).splitlines() or [""]
    return f"exit status {done.returncode}: {said[-1]}" if done.returncode else ""


def tests_trouble(copy: Path, tests: list[str]) -> str:
    """Why the tests fail, at the first that does."""
    return trouble(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *LEFT_OUT, *tests)


def section_trouble(copy: Path, section: Path) -> str:
    """Why the cells of a section, as a script, do not run to their end."""
    script = copy / "section.py"
    script.write_text(sources.script(section.read_text("utf8")), "utf8")
    return trouble(copy, script.name)


def noticed(copy: Path, mutant: Mutant) -> str:
    """What noticed a mutant and how it said so; `UNDECIDED`; or nothing.

    A section that a mutant stops must run without it, and be stopped again: a check that fails now
    and then would otherwise count.
    """
    path, source = copy / mutant.file, (ROOT / mutant.file).read_text("utf8")
    spoiled, undecided = mutant.applied(source), ""
    try:
        path.write_text(spoiled, "utf8")
        said = tests_trouble(copy, relevant_tests(mutant.file))
        if said:
            return said if said == UNDECIDED else f"tests, {said}"
        for page in relevant_sections(mutant.file):
            said = section_trouble(copy, page)
            if said == UNDECIDED:
                undecided = UNDECIDED
            elif said:
                path.write_text(source, "utf8")
                sound = not section_trouble(copy, page)
                path.write_text(spoiled, "utf8")
                if sound and section_trouble(copy, page) == said:
                    return f"{page.stem}, {said}"
                print(
                    f"{page.stem} is no witness of {mutant.file}:{mutant.line}: {said}", flush=True
                )
                undecided = UNDECIDED
        return undecided
    finally:
        path.write_text(source, "utf8")


def changed_lines(mutant: Mutant) -> tuple[str, str]:
    """The lines of a mutant before and after the change, without the space around them."""
    code = (ROOT / mutant.file).read_bytes()
    first = code.rfind(b"\n", 0, mutant.start) + 1
    last = (code + b"\n").index(b"\n", mutant.end)
    before, behind = code[first : mutant.start].decode(), code[mutant.end : last].decode()
    return tidy(before + mutant.was + behind), tidy(before + mutant.became + behind)


def tidy(lines: str) -> str:
    """Lines without the space around them."""
    return "\n".join(line.strip() for line in lines.splitlines())


def equivalent() -> set[tuple[str, str, str]]:
    """File, lines before and lines after of the mutants that are known to do the same."""
    known = tomllib.loads(EQUIVALENT.read_text("utf8")).get("mutant", [])
    return {(entry["file"], entry["was"], entry["became"]) for entry in known}


def sample(n: int, seed: int) -> list[Mutant]:
    """So many mutants of all files, drawn without replacement; known equivalents are left out."""
    files = sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "rl_helpers").rglob("*.py")
    )
    every = [m for file in files for m in mutants(file, (ROOT / file).read_text("utf8"))]
    known = equivalent()
    every = [m for m in every if (m.file, *changed_lines(m)) not in known] if known else every
    return random.Random(seed).sample(every, min(n, len(every)))


def copy_book(folder: Path) -> None:
    """Copy what the quick tests and the sections read into a new folder."""
    folder.mkdir()
    for name in COPIED:
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        place(ROOT / name, folder / name)


def main(n: int = 200, seed: int = 0) -> int:
    """Plant a sample of mutants, print the score and the survivors; 1 if there are any."""
    drawn = sample(n, seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(WORKERS) as pool,
    ):
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(WORKERS):
            copy = Path(folder) / str(number)
            copy_book(copy)
            copies.put(copy)

        def within(job: Callable[..., str], *arguments: object) -> str:
            copy = copies.get()
            try:
                return job(copy, *arguments)
            finally:
                copies.put(copy)

        files = sorted({mutant.file for mutant in drawn})
        tests = [test for file in files for test in relevant_tests(file)]
        if failed := pool.submit(within, tests_trouble, list(dict.fromkeys(tests))).result():
            raise Stop(f"Without any mutant the tests do not pass: {failed}. Run make test first.")
        jobs = {pool.submit(within, noticed, mutant): mutant for mutant in drawn}
        left: list[tuple[Mutant, str]] = []
        for done, job in enumerate(concurrent.futures.as_completed(jobs), start=1):
            mutant, by = jobs[job], job.result()
            left += [(mutant, by or "survived")] if by in ("", UNDECIDED) else []
            where = f"{mutant.file}:{mutant.line}"
            print(f"{done}/{len(drawn)} {where} {by or 'SURVIVED'}", flush=True)
    unknown = sum(by == UNDECIDED for _, by in left)
    print(
        f"\n{len(drawn) - len(left)} of {len(drawn)} mutants were noticed (seed {seed}); ", end=""
    )
    print(f"{len(left) - unknown} survived, {unknown} undecided.")
    for mutant, by in sorted(left, key=lambda pair: (pair[0].file, pair[0].line)):
        was, became = (side.replace("\n", "\n      ") for side in changed_lines(mutant))
        print(f"\n{mutant.file}:{mutant.line} {by}\n    - {was}\n    + {became}")
    return int(bool(left))


if __name__ == "__main__":
    os.nice(10)
    try:
        sys.exit(main(*map(int, sys.argv[1:])))
    except Stop as stop:
        sys.exit(str(stop))
