"""Retrieval of many captions x many images: blocks and counting against one argsort per query.

    OMP_NUM_THREADS=2 python benchmarks/retrieval_eval.py

Both give the rank of every text's and every image's right answer. The loop scores one query, sorts, and looks the right
answer up; a sample of its queries is timed and multiplied, because all of them take minutes. The ranks of the sample
are compared with ours. Memory is what our ranking allocates at its peak, beside the vectors.
"""

from __future__ import annotations

import argparse
import platform
import time
import tracemalloc

import numpy as np

from geoglot.evaluation.ranks import TILE, Pairs, both_ranks

TARGET = 20.0

clock = time.perf_counter


def drawn(texts: int, images: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors [M, D] and [N, D], text m belonging to image m modulo N and somewhat like it; and the owners [M]."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((images, dim), np.float32)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    owner = np.arange(texts) % images
    text = image[owner] * 4 + rng.standard_normal((texts, dim), np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return text, image, owner


def loop(queries: np.ndarray, gallery: np.ndarray, wanted: list[np.ndarray], ranks: np.ndarray) -> tuple[float, float]:
    """One argsort a query. Seconds a query in all, and in sorting and looking up alone; checks the ranks."""
    started, sorting = clock(), 0.0
    for query, right, expected in zip(queries, wanted, ranks, strict=True):
        scores = gallery @ query
        at = clock()
        order = np.argsort(-scores)
        found = min(int(np.flatnonzero(order == one)[0]) for one in right)
        sorting += clock() - at
        assert abs(found - expected) <= 1, (found, expected)  # float32 rounding may swap neighbours
    return (clock() - started) / len(queries), sorting / len(queries)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=30_000)
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--sample", type=int, default=200, help="queries of each direction that the loop does")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="count the process's CPU seconds: for a busy machine")
    args = parser.parse_args()
    global clock
    clock = time.process_time if args.cpu else time.perf_counter
    text, image, owner = drawn(args.texts, args.images, args.dim, 0)
    print(
        f"{platform.machine()}, numpy {np.__version__}; {args.texts:,} x {args.images:,} x {args.dim}, tile {TILE}; "
        + ("CPU" if args.cpu else "wall clock")
        + " seconds"
    )
    rng = np.random.default_rng(1)
    ratios = []
    for number in range(args.rounds):
        tracemalloc.start()
        started = clock()
        by_text, by_image = both_ranks(text, image, Pairs(np.arange(args.texts), owner))
        ours = clock() - started
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        started = clock()
        for at in range(0, args.texts, 1024):
            text[at : at + 1024] @ image.T
        product = clock() - started
        m = rng.choice(args.texts, args.sample, replace=False)
        n = rng.choice(args.images, args.sample, replace=False)
        one = loop(text[m], image, [owner[[i]] for i in m], by_text.worst[m])
        two = loop(image[n], text, [np.flatnonzero(owner == i) for i in n], by_image.worst[n])
        whole = one[0] * args.texts + two[0] * args.images
        sorting = one[1] * args.texts + two[1] * args.images
        ratios.append(whole / ours)
        print(
            f"round {number}: {ours:.1f} s (the product alone {product:.1f} s), loop {whole:.0f} s (sorting alone"
            f" {sorting:.0f} s): {whole / ours:.1f} x; peak {peak:.1f} MiB"
        )
    print(f"median {np.median(ratios):.1f} x (target {TARGET:.0f} x)")


if __name__ == "__main__":
    main()
