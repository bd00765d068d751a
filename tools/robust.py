"""Whether the book holds elsewhere: every section again with other seeds and other instructions.

make robust (SEEDS=5, FIRST=1, ARGS="chapters/…/section.md …") executes each section with its own
seed, with the seeds FIRST to FIRST + SEEDS - 1 in place of it, and, on x86, with its own seed and
another set of vector instructions, which rounds differently. It prints for each check and finding in
how many runs it held and with how little room, and the numbers that the text types although another
run prints others.

The room of a check is the factor by which it holds: the distance of its nearest mistake over the
distance that is needed, or its tolerance over the distance of its two sides, whichever is smaller; of
a bound, the instances that break its tightened version; of a finding, the standard errors between mean
and bound. A typed number that also stands in the section's code may be a setting: it is listed with a
question mark, and is no fault.
"""

import os
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from extensions.kernels import kernel_env, new_client
from rl_helpers.training.sweeps import run_tasks
from tools import leftovers
from tools.environment import ROOT
from tools.messages import Stop
from tools.typed_numbers import Typed, typed_numbers, written_numbers

# Instructions that any x86 processor of the last ten years has, and ones that round otherwise.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
SSE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
}
SEED = re.compile(r"^SEED = \d+$", re.M)
LEAST_ROOM = {"check": 1.0, "finding": 2.0}


@dataclass
class Outcome:
    """What one execution of a section left: the room of each check and finding, and its numbers."""

    rooms: dict[str, float] = field(default_factory=dict)
    printed: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


def other_instructions() -> dict[str, dict[str, str]]:
    """Another set of vector instructions than this processor's own; none where it is no x86."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {}
    import torch

    native = torch.backends.cpu.get_cpu_capability()
    return {"AVX2": AVX2} if native == "AVX512" else {"SSE": SSE}


def sections(names: list[str]) -> list[Path]:
    """The sections named, or all."""
    pages = [ROOT / name for name in names] or leftovers.pages()
    return [page for page in pages if SEED.search(page.read_text("utf8"))]


def execute(page: Path, seed: int | None, env: dict[str, str]) -> Outcome:
    """Execute a section with another seed, to its end even where cells fail."""
    text = page.read_text("utf8")
    if seed is not None:
        text = SEED.sub(f"SEED = {seed}", text)
    notebook = jupytext.reads(text, fmt="md:myst")
    client = new_client(notebook, allow_errors=True)
    client.execute(cwd=str(page.parent), env=kernel_env(ROOT) | env)
    return read(notebook)


def read(notebook: NotebookNode) -> Outcome:
    """Read what the cells of an executed section left."""
    outcome = Outcome()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            metadata = output.get("metadata", {})
            if check := metadata.get("rl_check"):
                name = f"check {check['anchor'].removeprefix('check-')}"
                outcome.rooms[name] = float(check["room"])
            if finding := metadata.get("rl_finding"):
                outcome.rooms[f"finding {finding['name']}"] = float(finding["room"])
            if output.output_type == "error":
                outcome.errors.append(f"{output.ename}: {output.evalue}".splitlines()[0])
            outcome.printed |= set(numbers(output))
    return outcome


def numbers(output: NotebookNode) -> Iterator[str]:
    """Yield the numbers that an output shows as text."""
    shown = output.get("text") or output.get("data", {}).get("text/plain", "")
    yield from re.findall(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?", shown)


def stale(page: Path, own: Outcome, others: list[Outcome]) -> list[Typed]:
    """Return the typed numbers that the section's own run prints and some other run does not."""
    lost = {number for other in others for number in own.printed - other.printed}
    return [typed for typed in written_numbers(page.read_text("utf8")) if typed.number in lost]


def report(page: Path, runs: dict[str, Outcome]) -> int:
    """Print what held in the runs of one section; return the number of faults."""
    faults, n = 0, len(runs)
    name = page.relative_to(ROOT).as_posix()
    print(f"\n{name}: {', '.join(runs)}")
    rooms: dict[str, list[float]] = defaultdict(list)
    for outcome in runs.values():
        for key, room in outcome.rooms.items():
            rooms[key].append(room)
    for key, values in rooms.items():
        held = len(values) == n and min(values) >= LEAST_ROOM[key.split()[0]]
        faults += not held
        unit = "times" if key.startswith("check") else "standard errors"
        print(
            f"  {'✓' if held else '✗'} {key}: {len(values)} of {n}, least room {min(values):.2g} {unit}"
        )
    for run, outcome in runs.items():
        for error in outcome.errors:
            faults += 1
            print(f"  ✗ {run}: {error}")
    own, *others = runs.values()
    unknown = typed_numbers(page.read_text("utf8"))
    for typed in stale(page, own, others):
        if typed not in unknown:
            print(
                f"  ? {name}:{typed.line}: {typed.number} in {typed.place}: of the code, or the run?"
            )
            continue
        faults += 1
        print(
            f"  ✗ {name}:{typed.line}: {typed.number} in {typed.place} is typed, and other runs differ"
        )
    return faults


def whole(name: str, default: int) -> int:
    """An environment variable as a whole number, or Stop."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise Stop(
            f"{name} is {text!r}; allowed is a whole number, for example make robust {name}=20"
        )
    return int(text)


def main(names: list[str]) -> int:
    """Make robust, once the environment is there. Returns 1 if anything failed in any run."""
    first, n = whole("FIRST", 1), whole("SEEDS", 5)
    runs: dict[str, tuple[int | None, dict[str, str]]] = {"its own seed": (None, {})}
    runs |= {f"seed {seed}": (seed, {}) for seed in range(first, first + n)}
    runs |= {f"with {name}": (None, env) for name, env in other_instructions().items()}
    pages = sections(names)
    if not pages:
        raise Stop(f"No section in {', '.join(names) or 'chapters/'}: a section states its SEED.")
    tasks = [(page, *how) for page in pages for how in runs.values()]
    outcomes = run_tasks(execute, tasks, engine="threading")
    faults = 0
    for page in pages:  # each as soon as its own runs are there
        faults += report(page, dict(zip(runs, islice(outcomes, len(runs)), strict=True)))
    print(f"\n{len(runs)} runs of {len(pages)} sections: {faults or 'no'} faults")
    return min(faults, 1)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        sys.exit(str(stop))
