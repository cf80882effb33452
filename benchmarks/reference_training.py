"""open_clip's own training loop on a CSV of pairs, timed step by step. Runs in a Python that has open_clip.

    python benchmarks/reference_training.py --csv pairs.csv --model ViT-S-32 --batch 16 --steps 4 --precision fp32

Started by train_throughput.py. Prints one JSON line: seconds of each step, by the wall and of CPU, and which open_clip
it was. Packages that `open_clip_train.data` imports for other formats are stood in for where they are missing: a CSV
needs none of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace


def stand_in(name: str, **members: object) -> None:
    """An empty module, unless the real one is there."""
    try:
        __import__(name)
    except ImportError:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)  # PyTorch asks every module for it
        module.__dict__.update(members)
        sys.modules[name] = module


class Frame(dict):
    """As much of a pandas table as CsvDataset asks for."""

    class Column(list):
        def tolist(self) -> list:
            return list(self)


def read_csv(file: str, sep: str) -> Frame:
    with Path(file).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter=sep))
    return Frame({key: Frame.Column(row[key] for row in rows) for key in rows[0]})


class Timed:
    """A loader that notes when each batch is asked for."""

    def __init__(self, loader: object, steps: int) -> None:
        self.loader, self.num_batches, self.num_samples, self.asked = loader, steps, loader.num_samples, []

    def __iter__(self):
        iterator = iter(self.loader)
        for _ in range(self.num_batches):
            self.asked.append((time.perf_counter(), time.process_time()))
            yield next(iterator)
        self.asked.append((time.perf_counter(), time.process_time()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    import torch

    library = torch.library.Library("torchvision", "DEF")  # beside a CPU build of torch its registration fails
    for name in ("nms(Tensor dets, Tensor scores, float iou) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
        try:
            library.define(name)
        except RuntimeError:
            break
    torch.set_num_threads(args.threads)
    stand_in("braceexpand")
    stand_in("pandas", read_csv=read_csv)
    stand_in("webdataset", PipelineStage=object)
    stand_in("webdataset.filters", _shuffle=None)
    names = ("base_plus_ext", "url_opener", "tar_file_expander", "valid_sample")
    stand_in("webdataset.tariterators", **dict.fromkeys(names))
    import open_clip
    from open_clip_train.data import get_csv_dataset
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch

    model, prepare, _ = open_clip.create_model_and_transforms(args.model, output_dict=True)
    told = SimpleNamespace(
        train_data=args.csv, csv_img_key="filepath", csv_caption_key="title", csv_separator="\t", distributed=False,
        batch_size=args.batch, workers=args.workers, device="cpu", precision=args.precision, distill=False,
        accum_freq=1, skip_scheduler=False, horovod=False, grad_clip_norm=None, log_every_n_steps=1, world_size=1,
        rank=0, wandb=False, epochs=1, save_logs=False, local_rank=0, checkpoint_path="", val_frequency=0,
    )  # fmt: skip
    data = get_csv_dataset(told, prepare, True, tokenizer=open_clip.get_tokenizer(args.model))
    data.dataloader = Timed(data.dataloader, args.steps)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)  # as open_clip_train.main makes it
    schedule = cosine_lr(optimizer, 5e-4, 2, args.steps)
    train_one_epoch(model, {"train": data}, open_clip.ClipLoss(), 0, optimizer, None, schedule, None, told)
    asked = data.dataloader.asked
    wall, cpu = ([after[at] - before[at] for before, after in pairwise(asked)] for at in (0, 1))
    print(json.dumps({"wall": wall, "cpu": cpu, "open_clip": open_clip.__version__, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
