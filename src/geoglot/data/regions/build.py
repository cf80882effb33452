"""Any detection or dense-mask sets -> one multi-granularity set in MGRS-200k's layout, with provenance.

    <out>/global_imgs/<source>/<number>_<image>   links, or copies; chips and renderings are written as PNG
    <out>/text_info.json                          the records, for FarSLIP's loader and for layout "mgrs"
    <out>/manifest.json                           sources, fingerprints, categories, captioner, counts, what was skipped

While it runs, finished records stand in `records.part.jsonl`, one a line, and a broken run goes on behind the last
whole line: captions of a large model are too dear to be made twice. `text_info.json` appears at once and whole, at the
end.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from geoglot.data.regions.captions import Captioner, Captions, TemplateCaptioner
from geoglot.data.regions.categories import CategoryIds, category_ids
from geoglot.data.regions.mgrs import FILE, FOLDER, NO_CATEGORY
from geoglot.data.regions.schema import Region, RegionRecord, RegionSet
from geoglot.errors import StorageError, UsageError
from geoglot.files import write_atomically
from geoglot.version import __version__

MANIFEST, PART = "manifest.json", "records.part.jsonl"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Material:
    """One set to build from.

    Attributes:
        name: Of its folder below `global_imgs`: letters, digits, "-" and "_".
        regions: The set.
        captioner: Speaks where a record has no captions of its own.
        facts: For the manifest: path, layout, split, licence.
    """

    name: str
    regions: RegionSet
    captioner: Captioner = field(default_factory=TemplateCaptioner)
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise UsageError(f"{self.name!r} is no name of a folder", hint="Letters, digits, - and _.")


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The report of a build; of a dry run, what it would make.

    Attributes:
        out: Folder.
        records, regions: How many.
        done_before: Records that an earlier run had finished.
        captioned: Records whose captions were made now; the others brought their own, or were done before.
        categories: Name -> regions, in the order of the ids.
        skipped: Source -> reason (its numbers as "N") -> how often.
        captioners: Who spoke, or would.
        dry_run: Nothing was written.
    """

    out: Path
    records: int
    regions: int
    done_before: int
    captioned: int
    categories: Mapping[str, int]
    skipped: Mapping[str, Mapping[str, int]]
    captioners: tuple[str, ...]
    dry_run: bool


def build_regions(
    materials: Sequence[Material],
    out: Path,
    *,
    rename: Mapping[str, str] | None = None,
    images: Literal["link", "copy"] = "link",
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> BuildReport:
    """Build a set of regions with captions; run it again to go on with a broken run.

    Args:
        materials: At least one; names differ.
        out: Folder of the result.
        rename: Category as a source spells it -> the name that all sources share, on top of what is alike anyway (case,
            spaces, "-" and "_" aside).
        images: Symbolic links to the sources' files, or copies.
        dry_run: Count, and write nothing.
        on_progress: Called with (records done, records in all).

    Raises:
        UsageError: No material, two of the same name, a bad renaming, or a captioner that says nothing.
        StorageError: The folder holds something else, or cannot be written.
        SampleError: An image cannot be read.
    """
    names = [material.name for material in materials]
    if not names:
        raise UsageError("nothing to build from", hint="Name at least one source.")
    if len(set(names)) < len(names):
        raise UsageError(f"two sources share a name: {', '.join(names)}", hint="Set `name` of each.")
    ids = category_ids([material.regions.categories for material in materials], rename or {})
    build = _Build(materials, out, ids, images)
    before, captioned = (0, 0) if dry_run else build.run(on_progress)
    return BuildReport(
        out=out,
        records=len(build.plan),
        regions=sum(len(record.regions) for _, _, record in build.plan),
        done_before=before,
        captioned=captioned,
        categories=build.counts(),
        skipped={material.name: kinds(material.regions.skipped) for material in materials},
        captioners=tuple(dict.fromkeys(material.captioner.name for material in materials)),
        dry_run=dry_run,
    )


def kinds(skipped: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Reason without its numbers -> how often."""
    return dict(Counter(re.sub(r"-?\d(?:[\d.,e+-]*\d)?", "N", reason) for _, reason in skipped).most_common())


class _Build:
    """One build: what is planned, what is done, and the files of both."""

    def __init__(self, materials: Sequence[Material], out: Path, ids: CategoryIds, images: str) -> None:
        self.materials, self.out, self.ids, self.images = materials, out, ids, images
        self.plan = [(m, i, record) for m in materials for i, record in enumerate(m.regions.records)]

    def counts(self) -> dict[str, int]:
        """Regions of each category."""
        seen = Counter(self.ids.of(r.category) for _, _, record in self.plan for r in record.regions if r.category)
        return {name: seen[number] for number, name in enumerate(self.ids.names)}

    def mark(self) -> str:
        """Changes with anything that would change the result."""
        digest = blake2b(repr((self.ids.names, sorted(self.ids.ids.items()), self.images)).encode(), digest_size=8)
        for m in self.materials:
            digest.update(repr((m.name, m.regions.fingerprint(), m.captioner.name)).encode())
        return digest.hexdigest()

    def run(self, on_progress: Callable[[int, int], None] | None) -> tuple[int, int]:
        """How many records were done before, and how many were captioned now."""
        mark = self.mark()
        with _storing(self.out):
            if self._finished(mark):
                return len(self.plan), 0
            rows = self._begin(mark)
            before, captioned = len(rows), 0
            with (self.out / PART).open("a", encoding="utf-8") as part:
                for at, (material, i, record) in enumerate(self.plan[before:], start=before + 1):
                    row, made = self._row(material, i, record)
                    captioned += made
                    part.write(json.dumps(row, ensure_ascii=False) + "\n")
                    part.flush()
                    rows.append(row)
                    if on_progress:
                        on_progress(at, len(self.plan))
            _replace(self.out / FILE, rows)
            _replace(self.out / MANIFEST, self._manifest(mark))
            (self.out / PART).unlink()
            return before, captioned

    def _finished(self, mark: str) -> bool:
        """Whether this very build is done. Raises StorageError: the folder holds something else."""
        if not self.out.exists() or not any(self.out.iterdir()):
            return False
        if (self.out / MANIFEST).is_file():
            earlier = _json(self.out / MANIFEST).get("mark")
        elif (self.out / PART).is_file():
            earlier = next(iter(_whole_lines(self.out / PART)), {}).get("mark")
        else:
            earlier = None
        if earlier != mark:
            raise StorageError(
                f"{self.out} holds something else than this build",
                hint="Its sources, names or captioner changed, or it is no build. Give another folder, or empty it.",
            )
        return (self.out / MANIFEST).is_file()

    def _begin(self, mark: str) -> list[Row]:
        """The records that an earlier run finished; what it broke off in the middle of is cut away."""
        self.out.mkdir(parents=True, exist_ok=True)
        part = self.out / PART
        lines = _whole_lines(part) if part.is_file() else []
        lines = lines or [{"mark": mark}]
        part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
        return lines[1:]

    def _row(self, material: Material, i: int, record: RegionRecord) -> tuple[Row, bool]:
        """A record in MGRS-200k's layout, its image put in place; and whether captions had to be made."""
        own = record.captions
        captions = Captions(min(own, key=len), max(own, key=len)) if own else self._speak(material, i, record)
        return {
            "global_filepath": self._place(material, i, record),
            "brief_caption": captions.brief,
            "detailed_caption": captions.detailed,
            "segment": [self._segment(region, record) for region in record.regions],
            "provenance": {
                "source": material.name,
                "record": record.source,
                "captions": "source" if own else material.captioner.name,
            },
        }, not own

    def _speak(self, material: Material, i: int, record: RegionRecord) -> Captions:
        named = tuple(replace(r, category=self._name(r)) for r in record.regions)
        said = material.captioner.caption(material.regions.image(i), replace(record, regions=named))
        if not said.brief.strip() or not said.detailed.strip():
            raise UsageError(f"captioner {material.captioner.name!r} gave no caption for {record.source}")
        return said

    def _segment(self, region: Region, record: RegionRecord) -> Row:
        box = dict(zip(("x1", "y1", "x2", "y2"), (round(v, 3) for v in region.box_px), strict=True))
        row: Row = {
            "bbox": {**box, "width": record.width, "height": record.height},
            "category": self._name(region),
            "category_id": self.ids.of(region.category) if region.category else NO_CATEGORY,
        }
        return row if region.text is None else {**row, "cap": region.text}

    def _name(self, region: Region) -> str:
        """The name that all sources share."""
        return self.ids.names[self.ids.of(region.category)] if region.category else ""

    def _place(self, material: Material, i: int, record: RegionRecord) -> str:
        """Put an image below `global_imgs`; its path there."""
        source = Path(record.image).absolute()
        drawn = material.regions.pixels is not None
        name = f"{material.name}/{i:06d}_{source.stem if drawn else source.name}{'.png' if drawn else ''}"
        target = self.out / FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # of a run that broke off here
        if drawn:
            Image.fromarray(material.regions.image(i)).save(target)
        elif self.images == "link":
            target.symlink_to(source)
        else:
            shutil.copyfile(source, target)
        return name

    def _manifest(self, mark: str) -> Row:
        counts = self.counts()
        return {
            "mark": mark,
            "geoglot": __version__,
            "records": len(self.plan),
            "regions": sum(len(record.regions) for _, _, record in self.plan),
            "images": self.images,
            "categories": [{"id": n, "name": name, "regions": counts[name]} for n, name in enumerate(self.ids.names)],
            "sources": [
                {
                    "name": m.name,
                    **m.facts,
                    "fingerprint": m.regions.fingerprint(),
                    "records": len(m.regions),
                    "categories": {category: self.ids.of(category) for category in m.regions.categories},
                    "captioner": m.captioner.name,
                    "notes": list(m.regions.notes),
                    "skipped": kinds(m.regions.skipped),
                }
                for m in self.materials
            ],
        }


@contextmanager
def _storing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "Check the space on the disk; where links cannot be made, copy the images."
        raise StorageError(f"{out} cannot be written: {error}", hint=hint) from error


def _replace(file: Path, content: object) -> None:
    """Write JSON so that there is either the old file or the whole new one."""
    write_atomically(file, json.dumps(content, ensure_ascii=False, indent=1).encode())


def _json(file: Path) -> Row:
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _whole_lines(file: Path) -> list[Row]:
    """The JSON lines of a file up to one that broke off."""
    rows: list[Row] = []
    for line in file.read_bytes().split(b"\n")[:-1]:
        try:
            row = json.loads(line)
        except ValueError:
            break
        rows.append(row)
    return rows
