"""What int8 costs the bundled model: cosines and retrieval on UC Merced, int8 as shipped against its fp32 weights.

    python benchmarks/export_quality.py --weights runs/mini/final.pt --data ../shared/data

UC Merced is held out from training and from every choice; nothing is chosen here. Text vectors are the shipped ones on
both sides: that tower is fp32. Targets: cosine at least 0.99; R@10 moves by at most 0.5 points in either direction.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
from stand_in import machine

from geoglot.data.samples import load_pixels, read_samples
from geoglot.errors import UnknownWordsError
from geoglot.models.encoder import Images, Vectors
from geoglot.models.export.towers import export_image, load_towers
from geoglot.models.load import load_encoder


def fp32_vectors(weights: Path, images: Images) -> Vectors:
    """Through an fp32 graph of the same weights, on ONNX Runtime."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.onnx"
        export_image(load_towers(weights), images.shape[1], path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        parts = [session.run(None, {"images": images[at : at + 32]})[0] for at in range(0, len(images), 32)]
    return np.concatenate(parts)


def recall(scores: Vectors, right: Vectors, k: int = 10) -> float:
    """Percent of rows with a right column among the k best."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return 100 * float(np.take_along_axis(right, best, 1).any(1).mean())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="final.pt of the run that made the bundled model")
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    print(machine())
    encoder = load_encoder()
    samples = read_samples(args.data / "ucm" / "captions.jsonl")
    images = load_pixels(samples, encoder.card.image_px)
    int8, fp32 = encoder.encode_images(images), fp32_vectors(args.weights, images)
    cosines = (int8 * fp32).sum(1)
    print(f"{len(images)} chips: cosine mean {cosines.mean():.5f}, least {cosines.min():.5f}")
    vectors, owners, skipped = [], [], 0
    for row, sample in enumerate(samples):
        for caption in sample.captions:
            try:
                vectors.append(encoder.encode_texts([caption])[0])
                owners.append(row)
            except UnknownWordsError:
                skipped += 1
    texts, right = np.stack(vectors), np.zeros((len(owners), len(images)), bool)
    right[np.arange(len(owners)), owners] = True
    print(f"{len(texts)} captions, {skipped} of unknown words left out; only a caption's own image counts")
    for name, turn in (("text to image", False), ("image to text", True)):
        found = []
        for side in (fp32, int8):
            scores = texts @ side.T
            found.append(recall(scores.T, right.T) if turn else recall(scores, right))
        print(f"{name}: R@10 fp32 {found[0]:.2f}, int8 {found[1]:.2f}, change {found[1] - found[0]:+.2f} points")


if __name__ == "__main__":
    main()
