"""Training samples per second against open_clip's own loop: same model, same batch, same files, one run.

    python benchmarks/train_throughput.py --reference-python OTHER/bin/python
    python benchmarks/train_throughput.py --reference-python OTHER/bin/python --precision bf16 --rounds 5
    python benchmarks/train_throughput.py --where      # what our own loop gains from what

The other Python needs open_clip_torch and torch. Rounds are interleaved, each in a fresh process; the ratio is taken
within a round and the median round counts. Images are drawn JPEGs, captions a dozen words, as remote-sensing captions
are. Target: at least 1.2x. Also prints our share of time spent waiting for data.

On a machine that does other things, look at CPU time: that of our whole process, decoding included, against that of
open_clip's training process without its decoding workers, which favours open_clip.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

BENCH = Path(__file__).resolve().parent
SENTENCE = "many green trees are around several large white buildings near a long straight grey road with cars"
KINDS = ("wall", "cpu")
WARM = 1
"""Steps that are not counted: first touch of memory, first batches of the loaders."""


def draw_pairs(folder: Path, count: int) -> Path:
    """JPEGs of 256 px and a CSV with absolute paths, tab between columns."""
    rng = np.random.default_rng(0)
    lines = ["filepath\ttitle"]
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3)).astype(np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
        words = rng.choice(SENTENCE.split(), int(rng.integers(8, 16)))
        lines.append(f"{folder / f'{index}.jpg'}\t{' '.join(words)} .")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


def ours(args: argparse.Namespace) -> None:
    """One run of our loop; prints a JSON line. Runs in a process of its own."""
    import torch

    from geoglot.data.batches import BatchPlan
    from geoglot.data.decode import Prepare
    from geoglot.data.loader import Feed, Workshop
    from geoglot.data.sources import DataSource, open_source
    from geoglot.models.tokenizers.load import read_tokenizer
    from geoglot.models.towers.architecture import Architecture, TextShape, VisionShape
    from geoglot.models.towers.clip import build
    from geoglot.training.distributed import World
    from geoglot.training.loop import train
    from geoglot.training.loop_config import Loop
    from geoglot.training.objective import Contrastive
    from geoglot.training.run_folder import facts_of

    torch.set_num_threads(args.threads)
    shape = Architecture(
        VisionShape("vit", 224, 32, 384, (12,), 6, 1536, "cls"),
        TextShape("clip", 77, 49408, 384, 12, 6, 1536),
        384,
        "gelu",
    )
    towers = build(shape)
    with torch.no_grad():  # open_clip's sizes of random weights; the default ones overflow nothing but train nothing
        towers.token_embedding.weight.mul_(0.02)
    if args.pad:
        towers.needed = lambda ids: ids
    tokenizer = read_tokenizer(args.merges, "clip_bpe", context=77, vocabulary=49408)
    loop = Loop(
        batch=args.batch, steps=args.steps, learning_rate=5e-4, warmup=2, precision=args.precision, log_every=1,
        checkpoint_every=10**6, workers=args.workers, device="cpu",
    )  # fmt: skip
    sets = [open_source(DataSource(str(args.csv)), Path())]
    workshop = Workshop(sets, Prepare(224, (0.9, 1.0)), tokenizer.ids, 0)
    times = [(time.perf_counter(), time.process_time())]
    with (
        tempfile.TemporaryDirectory() as out,
        Feed(workshop, BatchPlan(sets, [0.0], args.batch, 0), workers=args.workers) as feed,
    ):
        facts = facts_of("benchmark", loop, sets, World())
        watch = lambda _: times.append((time.perf_counter(), time.process_time()))  # noqa: E731
        report = train(Contrastive(towers), feed, loop, Path(out), facts, World(), on_progress=watch)
        log = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    wall, cpu = np.diff(times, axis=0).T.tolist()
    wait = statistics.mean(row["wait_share"] for row in log[WARM:])
    print(json.dumps({"wall": wall, "cpu": cpu, "wait": wait, "loss": log[-1]["loss"], "corrupt": report.corrupt}))


def start(command: list[str], args: argparse.Namespace, csv: Path) -> dict[str, object]:
    """Run one side; its rate over the steps that count."""
    options = {"--csv": csv, "--batch": args.batch, "--steps": args.steps + WARM, "--workers": args.workers}
    options |= {"--threads": args.threads}
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {f"per {kind} s": args.batch / statistics.median(found[kind][WARM:]) for kind in KINDS}  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", type=Path, help="a Python with open_clip_torch")
    parser.add_argument("--merges", type=Path, help="CLIP's bpe file; default: the one in the reference's open_clip")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--where", action="store_true", help="also without leaving out padding")
    parser.add_argument("--csv", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--pad", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        return ours(args)
    if args.reference_python is None:
        parser.error("--reference-python is needed")
    merges = args.merges or find_merges(args.reference_python)
    mine = [sys.executable, __file__, "--ours", "--merges", str(merges), "--precision", args.precision]
    theirs = [str(args.reference_python), str(BENCH / "reference_training.py"), "--model", "ViT-S-32"]
    theirs += ["--precision", "fp32" if args.precision == "fp32" else "amp_bf16"]
    sides = {"ours": mine, "open_clip": theirs} | ({"ours, padded": [*mine, "--pad"]} if args.where else {})
    with tempfile.TemporaryDirectory() as name:
        csv = draw_pairs(Path(name), args.batch * (args.steps + WARM + 2))
        rounds = []
        for turn in range(args.rounds):
            order = list(sides.items()) if turn % 2 == 0 else list(sides.items())[::-1]
            rounds.append({side: start(command, args, csv) for side, command in order})
            rates = ", ".join(f"{side} {f['per wall s']:.2f} ({f['per cpu s']:.2f})" for side, f in rounds[-1].items())
            wait = f"ours waits for data {rounds[-1]['ours']['wait']:.1%}"
            print(f"round {turn + 1}: samples a second (a CPU second): {rates}; {wait}", flush=True)
    for side in sides:
        by = [statistics.median(f[side][f"per {k} s"] / f["open_clip"][f"per {k} s"] for f in rounds) for k in KINDS]
        version = rounds[0]["open_clip"]["open_clip"]
        print(f"{side}: {by[0]:.2f}x of open_clip {version} by the wall, {by[1]:.2f}x by CPU time ({args.precision})")
    return None


def find_merges(python: Path) -> Path:
    """CLIP's merges inside the reference's open_clip."""
    code = "import importlib.util as u, pathlib as p; print(p.Path(u.find_spec('open_clip').origin).parent)"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()) / "bpe_simple_vocab_16e6.txt.gz"


if __name__ == "__main__":
    main()
