"""Kills survived of kills made: what dies at a random moment goes on to the bytes of what did not.

Every victim is forked from this process, which has torch imported and no thread, so that a kill
costs a fraction of a second. It trains or measures into a store and is killed; the next one goes
on from what the store holds, until one reaches the end. Then every file of the store is compared
with that of an undisturbed computation. A power cut is a kill that also takes what was not synced:
the next process finds a store in which such files are cut short and such names are old or new.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bsglib import runtime
from bsglib.runs import finished, measures, sweep, train
from bsglib.runs.measures import Measure
from bsglib.runs.params import RunConfig
from bsglib.runs.store import Store
from bsglib.runs.sweep import Entry, SweepError
from bsglib.studies.exports import is_stored

CONFIG = {
    "dataset": "digits",
    "train_size": 50,
    "network": "surlemont",
    "network_options": {"width": 0.0625, "dropout": 0.5},
    "momentum": 0.9,
    "base_lr": 0.1,
    "batch_size": 16,
    "epochs": 12,
    "dtype": "float64",
}
SHORT = RunConfig(**CONFIG | {"epochs": 2, "record_path": True})
ENTRIES = {
    "training": [Entry(RunConfig(**CONFIG, rho=0.05, record_path=True))],
    "measure": [
        Entry(
            SHORT,
            (
                Measure("interpolate", 30, {"points": 13}, SHORT.model_copy(update={"seed": 1})),
                Measure("gradient_agreement", 30, {"batch_sizes": [1, 8], "draws": 9}),
                Measure("trajectory", 1),
                Measure("keskar_sharpness", 30, {"epsilon": 0.01}),
            ),
        )
    ],
    "surface": [Entry(SHORT, (Measure("loss_surface", 30, {"seeds": [0, 1], "points": 9}),))],
    "sweep": [Entry(RunConfig(**CONFIG | {"epochs": 150, "seed": seed})) for seed in range(2)],
}
PATIENCE_S = 600  # for a process that should end by itself
FREQUENT = "from bsglib.runs import train\ntrain.CHECKPOINT_EVERY_S = -1\n"


class Lost(AssertionError):
    """A kill that was not survived."""


def forked(work: Callable[[], object]) -> int:
    """Return the process, in a group of its own, that does the work; its status is 0 if it can."""
    if pid := os.fork():
        return pid
    os.setpgid(0, 0)
    try:
        work()
        status = 0
    except SweepError:
        status = 1
    except BaseException:
        traceback.print_exc()
        status = 2
    os._exit(status)


def ended(pid: int, seconds: float) -> int | None:
    """Return the exit status of a process, minus a signal; None if it goes on after so long."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.001)


def undisturbed(work: Callable[[], object]) -> float:
    """Do the work in a process of its own; return the seconds it took."""
    start, pid = time.monotonic(), forked(work)
    status = ended(pid, PATIENCE_S)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        ended(pid, PATIENCE_S)
    if status != 0:
        raise Lost(f"the process that goes on ended with {status}")
    return time.monotonic() - start


TIMED = "wall_time_s", "processor_s", "checksum"


def contents(root: Path) -> dict[str, bytes]:
    """Return every file of a store by its name, without the times that runs took, and locks."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not name.startswith(".locks"):
            found[name] = path.read_bytes()
            if path.name == "result.json" or path.parent.name == "measures":
                found[name] = _untimed(found[name])
    return found


def _untimed(content: bytes) -> bytes:
    with contextlib.suppress(ValueError):  # else damaged on purpose
        values = json.loads(content)
        return json.dumps({k: v for k, v in values.items() if k not in TIMED}).encode()
    return content


def compare(root: Path, whole: Path, may_stay: str = "") -> None:
    """Hold a store that went on against an undisturbed one: the same files, the same bytes."""
    found, expected = contents(root), contents(whole)
    found = {n: c for n, c in found.items() if n in expected or Path(n).name != may_stay}
    if wrong := sorted(found.keys() ^ expected.keys()):
        raise Lost(f"left over or missing: {wrong}")
    if wrong := [name for name in expected if found[name] != expected[name]]:
        raise Lost(f"other bytes than undisturbed: {wrong}")


class Case:
    """A victim's work, done undisturbed once: in which store, how long, and how to do it."""

    def __init__(self, name: str, root: Path):
        self.name, self.root, self.numbers = name, root, itertools.count()
        self.entries = ENTRIES[name]
        self.whole = root / f"{name}-whole"
        self.seconds = undisturbed(lambda: self.work(self.whole))

    def work(self, root: Path) -> None:
        for entry in self.entries:
            sweep.compute(entry, str(root))

    def fresh(self) -> Path:
        return self.root / f"{self.name}-{next(self.numbers)}"

    def survived(self, root: Path, may_stay: str = "") -> None:
        undisturbed(lambda: self.work(root))
        compare(root, self.whole, may_stay)


def kill_processes(name: str, root: Path, kills: int, rng: random.Random) -> Iterator[int]:
    """Kill a process that trains or measures, again and again until it has come to the end."""
    case = Case(name, root)
    while kills:
        store, status, made = case.fresh(), None, 0
        while made < kills and status != 0:
            pid = forked(lambda store=store: case.work(store))
            time.sleep(rng.uniform(0, case.seconds))
            os.kill(pid, signal.SIGKILL)
            status = ended(pid, PATIENCE_S)
            if status > 0:
                raise Lost(f"a {name} that went on ended with {status}")
            made += status < 0
        case.survived(store)
        kills -= made
        yield made


def on_workers(root: Path) -> None:
    """Sweep on two Dask workers, forked from a process that has imported what they need."""
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", "bsglib.runs.sweep"])
        sweep.PRELOAD += FREQUENT
        sweep.sweep(ENTRIES["sweep"], Store(root), workers=2)


def workers_of(command: int) -> list[psutil.Process]:
    """Return the workers of a sweep: children of the process that forks them."""
    try:
        direct = psutil.Process(command).children()
        return [worker for child in direct for worker in child.children()]
    except psutil.NoSuchProcess:
        return []


def kill_workers(name: str, root: Path, kills: int, rng: random.Random) -> Iterator[int]:
    """Kill workers of a sweep that goes on, every fourth time all of it, and call it again."""
    case = Case(name, root)
    deadline = time.monotonic() + PATIENCE_S + 60 * kills
    while kills:
        store, status, made = case.fresh(), None, 0
        while made < kills and status != 0:
            pid, status = forked(lambda store=store: on_workers(store)), None
            while made < kills and status is None:
                if workers := workers_of(pid):
                    time.sleep(rng.uniform(0, case.seconds / 2))
                    made += killed(rng.choice(workers) if (made + 1) % 4 else pid)
                if time.monotonic() > deadline:
                    raise Lost(f"only {made} kills could be made of the {kills} left")
                status = ended(pid, 0.01)
            if status is None:
                os.killpg(pid, signal.SIGKILL)
                status = ended(pid, PATIENCE_S)
            if status > 1:
                raise Lost(f"a sweep that lost workers ended with {status}")
        case.survived(store)
        kills -= made
        yield made


def killed(victim: int | psutil.Process) -> bool:
    """Kill a process group, or a process; return whether there was one."""
    try:
        if isinstance(victim, int):
            os.killpg(victim, signal.SIGKILL)
        else:
            victim.kill()
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    return True


class Disk:
    """What a power cut would leave of the folders below `root`.

    It counts steps towards the disk. Before step number `cut` it writes to `image` what is certain
    to be there, with a random choice of the rest, and ends the process. Folders outlive a cut.
    """

    def __init__(self, root: Path, image: Path, cut: int | None, rng: random.Random):
        self.root, self.image, self.cut, self.rng, self.steps = root, image, cut, rng, 0
        self.files: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.held: list[int] = []  # so that no number of a file is used again
        for name in ("fsync", "replace", "unlink", "mkdir"):
            setattr(os, name, self.counted(getattr(os, name), getattr(self, name, None)))

    def counted(self, original, watch):
        def step(*arguments, **options):
            self.steps += 1
            if self.steps == self.cut:
                self.leave()
                os._exit(0)
            if watch is not None:
                return watch(*arguments)
            return original(*arguments, **options)

        return step

    def fsync(self, number: int) -> None:
        about = os.fstat(number)
        if stat.S_ISDIR(about.st_mode):
            self.names[about.st_ino] = {e.name: e.inode() for e in os.scandir(number)}
        else:
            path = next(p for p in self.root.rglob(".*") if p.stat().st_ino == about.st_ino)
            self.files[about.st_ino] = path.read_bytes()
            self.held.append(os.dup(number))

    def leave(self) -> None:
        for folder in (self.root, *(p for p in self.root.rglob("*") if p.is_dir())):
            now = {e.name: e.inode() for e in os.scandir(folder) if e.is_file()}
            synced = self.names.get(folder.stat().st_ino, {})
            target = self.image / folder.relative_to(self.root)
            target.mkdir(parents=True)
            for name in sorted(now.keys() | synced.keys()):
                inode = self.rng.choice([now.get(name), synced.get(name)])
                if inode in self.files:
                    (target / name).write_bytes(self.files[inode])
                elif inode is not None and now.get(name) == inode:
                    content = (folder / name).read_bytes()
                    (target / name).write_bytes(content[: self.rng.randint(0, len(content))])


def cut_power(name: str, root: Path, kills: int, rng: random.Random) -> Iterator[int]:
    """Cut the power at random steps towards the disk, and once in each case after the last one."""
    cases = [Case(each, root) for each in ("training", "measure", "surface")]
    steps: dict[str, int] = {}
    for number in range(kills):
        case, image = cases[number % len(cases)], root / f"image-{number}"
        count, store, seed = root / f"steps-{number}", case.fresh(), rng.random()
        cut = rng.randint(1, steps[case.name]) if case.name in steps else None

        def watched(case=case, image=image, count=count, store=store, seed=seed, cut=cut) -> None:
            disk = Disk(Store(store).root, image, cut, random.Random(seed))
            case.work(store)
            count.write_text(str(disk.steps))
            disk.leave()

        undisturbed(watched)
        if cut is None:
            steps[case.name] = int(count.read_text())
            if not all(is_stored(entry, Store(image)) for entry in case.entries):
                raise Lost(f"a {case.name} that had been finished")
        case.survived(image, may_stay=finished.CHECKPOINT)  # its removal is not synced
        yield 1


SHARES = {
    "training": (0.3, kill_processes),
    "measure": (0.2, kill_processes),
    "surface": (0.2, kill_processes),
    "power": (0.2, cut_power),
    "sweep": (0.1, kill_workers),
}


def soak(kills: int, seed: int) -> int:
    """Make so many kills, print how each kind was survived, and return how many were."""
    total, start = 0, time.monotonic()
    for name, (share, kill) in SHARES.items():
        made, survived, lost = round(share * kills), 0, ""
        with tempfile.TemporaryDirectory() as folder:
            try:
                for more in kill(name, Path(folder), made, random.Random(f"{seed} {name}")):
                    survived += more
            except Lost as error:
                lost = f", then lost: {error}"
        print(f"{name}: {survived} survived of {made}{lost}", flush=True)
        total += survived
    seconds = time.monotonic() - start
    print(f"{total} kills survived of {kills} made (seed {seed}, {seconds:.0f} s)", flush=True)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="a multiple of 40")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    train.CHECKPOINT_EVERY_S = measures.SAVE_EVERY_S = -1
    runtime.single_thread()
    train.train(SHORT)  # imports, before the forks
    sys.exit(soak(given.kills, given.seed) != given.kills)


if __name__ == "__main__":
    main()
