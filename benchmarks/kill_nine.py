"""Kill -9 at random moments during ingest: is anything half ever visible, is anything lost or twice in the end?

    python benchmarks/kill_nine.py                 # 100 kills; about ten minutes, most of it Python starting up
    python benchmarks/kill_nine.py --kills 6 --seed 3

A child process indexes a folder of small scenes with a stand-in encoder of numpy and is killed after a random part of a
span that follows how long runs take: shorter after a run that got to its end, longer after a kill. After each kill the
archive must open, and each scene that it shows must be whole: exactly the chips and vectors of one version of its file.
When nothing is left to do, files change, come and go, so that replacing and removing are interrupted too. At last one
clean run must leave the same chips as an undisturbed run into a new archive, none twice, and no leftovers. Exits 1 if
any of this fails.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from stand_in import PixelEncoder, draw_scene, machine

from geoglot.archive.archive import Archive
from geoglot.archive.ingest import ingest
from geoglot.archive.manifest import MANIFEST_FILE
from geoglot.archive.staging import StagedScene
from geoglot.imagery.chips import read_chips
from geoglot.imagery.grid import ChipGrid
from geoglot.imagery.scene import open_scene

SCENES = 10
PIECE = 24
"""Chips per write in the child: small, so that scenes are written in several commits."""
GRID = ChipGrid(ground_m=(80.0, 160.0), min_px=16)
PAUSE_S = 0.01

Content = dict[str, np.ndarray]


def child(archive: Path, folder: Path) -> None:
    """One ingest, announced once everything is imported, so that kills fall into the work and not into the imports."""
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb  # noqa: F401  ingest imports it late

    assert StagedScene.__init__.__kwdefaults__ is not None
    StagedScene.__init__.__kwdefaults__["piece"] = PIECE
    print("ready", flush=True)
    started = time.perf_counter()
    report = ingest(archive, folder, PixelEncoder(PAUSE_S), GRID, batch=8)
    print(f"done {time.perf_counter() - started} {len(report.failed)}", flush=True)


class World:
    """A folder of scenes whose files come in two versions, and what each version's chips are."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder = folder
        self._dice = dice
        self._versions = folder.parent / "versions"
        self._versions.mkdir()
        folder.mkdir()
        self._expected: dict[tuple[str, int], Content] = {}
        for number in range(SCENES):
            for version in (0, 1):
                self._draw(f"scene-{number}.tif", number, version)
            self.put(f"scene-{number}.tif", 0)

    def _draw(self, name: str, number: int, version: int) -> None:
        side = 160 + 40 * (number % 4) + 60 * version
        draw_scene(self._versions / f"{version}-{name}", side, 2 * number + version)

    def put(self, name: str, version: int) -> None:
        """Let a file take one of its versions, at once as a careful program would."""
        waiting = self.folder / f".{name}"
        waiting.write_bytes((self._versions / f"{version}-{name}").read_bytes())
        waiting.replace(self.folder / name)

    def change(self) -> None:
        """Some files change, one goes, those that went come back."""
        names = [f"scene-{number}.tif" for number in range(SCENES)]
        for name in self._dice.sample(names, SCENES // 2):
            self.put(name, self._dice.randrange(2))
        (self.folder / self._dice.choice(names)).unlink(missing_ok=True)

    def expected(self, name: str, version: int) -> Content:
        """Chips of a version of a file, one by one, by window."""
        if (name, version) not in self._expected:
            encoder, found = PixelEncoder(), {}
            with open_scene(self._versions / f"{version}-{name}") as scene:
                for chip, image in read_chips(scene, GRID, encoder.card.image_px):
                    found[str(chip.window.box_px)] = encoder.encode_images(image[None])[0]
            self._expected[name, version] = found
        return self._expected[name, version]


def shown(path: Path) -> dict[str, Content]:
    """Per scene name the chips that a reader of the archive gets."""
    archive = Archive.open(path)
    snapshot = archive._snapshot
    found: dict[str, Content] = {record.info.name: {} for record in archive.scenes()}
    names = [snapshot.record(i).info.name for i in range(snapshot.scene_count)]
    for row in range(len(snapshot)):
        chips = found[names[snapshot.scene_of(row)]]
        key = str(tuple(snapshot.arrays.windows[row].tolist()))
        if key in chips:
            raise SystemExit(f"FAILED: chip {key} is there twice")
        chips[key] = np.array(snapshot.arrays.vectors[row])
    return found


def same(left: Content, right: Content) -> bool:
    """Same chips, same vectors."""
    return left.keys() == right.keys() and all(np.allclose(left[key], right[key], atol=1e-5) for key in left)


def check_whole(path: Path, world: World) -> int:
    """Fail unless every scene that is shown is one version of its file; returns how many scenes are shown."""
    if not (path / MANIFEST_FILE).exists():
        return 0  # killed before the archive came to be
    scenes = shown(path)
    for name, content in scenes.items():
        if not any(same(content, world.expected(name, version)) for version in (0, 1)):
            raise SystemExit(f"FAILED: {name} is shown with {len(content)} chips, which is no version of it")
    return len(scenes)


def start(archive: Path, folder: Path) -> subprocess.Popen[str]:
    """A child that is about to ingest."""
    command = [sys.executable, __file__, "--child", str(archive), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise SystemExit("FAILED: the child did not start")
    return process


def kill_after(process: subprocess.Popen[str], delay_s: float) -> bool:
    """Kill -9 after a while; True if it was still at work."""
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"FAILED: a child ended with {process.returncode}")
    return process.returncode != 0


def run_through(archive: Path, folder: Path) -> float:
    """An undisturbed ingest; returns its seconds."""
    output, _ = start(archive, folder).communicate()
    word, seconds, failed = output.split()
    if word != "done" or failed != "0":
        raise SystemExit(f"FAILED: an undisturbed run said {output!r}")
    return float(seconds)


def left_to_do(archive: Path, folder: Path) -> int:
    """Scenes that the next run has to write or remove."""
    plan = ingest(archive, folder, PixelEncoder(), GRID, dry_run=True)
    return len(plan.added) + len(plan.replaced) + len(plan.removed)


def main(kills: int, seed: int) -> None:
    """Kill, check, compare."""
    print(machine())
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root, archive = Path(folder), Path(folder) / "archive"
        world = World(root / "scenes", dice)
        span_s = run_through(root / "warm", world.folder)
        done, finished, partly, scenes = 0, 0, 0, Counter[int]()
        while done < kills:
            if kill_after(start(archive, world.folder), dice.uniform(0, span_s)):
                done, span_s = done + 1, span_s * 1.1
            else:
                finished, span_s = finished + 1, span_s * 0.7
            count = check_whole(archive, world)
            scenes[count] += 1
            print(f"kill {done} of {kills}: {count} scenes, next span {span_s:.2f} s", file=sys.stderr, flush=True)
            if left := left_to_do(archive, world.folder):
                partly += left < SCENES
            else:
                world.change()
        run_through(archive, world.folder)
        run_through(root / "twin", world.folder)
        ours, twin = shown(archive), shown(root / "twin")
        if ours.keys() != twin.keys() or not all(same(ours[name], twin[name]) for name in ours):
            raise SystemExit("FAILED: the killed archive differs from the undisturbed one")
        if problems := Archive.open(archive).check():
            raise SystemExit(f"FAILED: {problems}")
    chips = sum(len(content) for content in ours.values())
    print(f"kills: {done}; runs that got to their end before: {finished}; last span: {span_s:.2f} s")
    print(f"kills and ends that left some scenes to write and not all: {partly}")
    print(f"scenes shown after each: {dict(sorted(scenes.items()))}")
    print(f"OK: in the end {len(ours)} scenes and {chips} chips, as undisturbed; none half, none twice, no leftovers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
    else:
        main(arguments.kills, arguments.seed)
