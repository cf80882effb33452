"""Which background prompts should count against a question? Those that mean something else: but how much else?

    python benchmarks/confidence_ablation.py --data ../shared/data

For several limits of likeness, refits confidence on RSICD `valid` (and sandbox chips) as the release does, and prints
how many questions about absent things are refused when 90 % of those about present things pass. Chooses `alike` of
models/card.py; 1.1 leaves nothing out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from geoglot.data.samples import read_samples
from geoglot.evaluation.embeddings import encode_samples
from geoglot.evaluation.release import fit_at, labelled_archives
from geoglot.models.load import load_encoder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    encoder = load_encoder()
    valid = read_samples(args.data / "rsicd" / "captions.jsonl", "valid")
    archives = labelled_archives(valid, encode_samples(encoder, valid), encoder)
    prompts = encoder.encode_texts(encoder.card.background)
    print("| alike | fitted on | absent refused % | log loss |\n|---|---|---|---|")
    for alike in (1.1, 0.8, 0.7, 0.6, 0.5):
        for name, chosen in (("RSICD valid", archives[:1]), ("RSICD valid and sandbox", archives)):
            found = fit_at(chosen, prompts, replace(encoder.card.calibration, alike=alike))
            print(f"| {alike} | {name} | {found.refused:.0f} | {found.log_loss:.4f} |")


if __name__ == "__main__":
    main()
