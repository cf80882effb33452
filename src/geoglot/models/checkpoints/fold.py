"""Position tables of Long-CLIP texts: 77 rows stretched to 248, and two tables of 248 rows folded into one.

Long-CLIP (Zhang et al. 2024, arXiv 2403.15378): the first 20 positions are well trained and stay; the other 57 are
stretched four times by linear interpolation, 20 + 4 * 57 = 248. Training holds the table twice, one frozen and one
trained; what the model adds to its tokens is rows 0-19 of the first and rows 20-247 of the second.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geoglot.errors import ModelFileError, UsageError

SHORT, LONG, KEPT, TIMES = 77, 248, 20, 4
TABLE, TRAINED, MASKS = "positional_embedding", "positional_embedding_res", ("mask1", "mask2")


def stretch_positions(table: Tensor) -> Tensor:
    """A position table [77, W] stretched to [248, W], to start Long-CLIP training from a 77-token model.

    Row 20 + k of the result stands at position 20 + k / 4 of the table; positions beyond the last row go on along the
    line through the last two. Computed in fp32, returned in the table's precision.

    Raises:
        UsageError: The table has not 77 rows.
    """
    if table.ndim != 2 or table.shape[0] != SHORT:
        raise UsageError(f"a position table of shape {tuple(table.shape)} cannot be stretched; it needs {SHORT} rows")
    positions = torch.arange(LONG, dtype=torch.float32)
    positions[KEPT:] = KEPT + (positions[KEPT:] - KEPT) / TIMES
    lower = positions.floor().clamp(max=SHORT - 2).long()
    share = (positions - lower)[:, None]
    rows = table.float()
    return torch.lerp(rows[lower], rows[lower + 1], share).to(table.dtype)


def fold_positions(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Canonical tensors in which the two tables of a Long-CLIP training are one; others come back as they are.

    Nothing is interpolated: a table that does not fit is an error, for a table resized to 77 rows loads "successfully"
    and damages the text tower.

    Raises:
        ModelFileError: The tables or masks are not those of Long-CLIP.
    """
    if TRAINED not in tensors:
        return dict(tensors)
    first, second = tensors.get(TABLE), tensors[TRAINED]
    if first is None or first.shape != second.shape or first.ndim != 2 or first.shape[0] != LONG:
        shapes = [None if table is None else tuple(table.shape) for table in (first, second)]
        raise ModelFileError(
            f"the two position tables of a Long-CLIP text tower should both have {LONG} rows; they are {shapes}",
            hint="They are never stretched or cut silently; get the file the authors released.",
        )
    _check_masks(tensors)
    rest = {name: tensor for name, tensor in tensors.items() if name not in {TRAINED, *MASKS}}
    return rest | {TABLE: torch.cat([first[:KEPT], second[KEPT:].to(first.dtype)])}


def _check_masks(tensors: Mapping[str, Tensor]) -> None:
    expected = (torch.arange(LONG) < KEPT)[:, None]
    for name, right in zip(MASKS, (expected, ~expected), strict=True):
        mask = tensors.get(name)
        if mask is None or (mask.is_meta and mask.shape == right.shape):
            continue
        if mask.shape != right.shape or not torch.equal(mask.float(), right.float()):
            raise ModelFileError(
                f"{name!r} does not select rows 0-{KEPT - 1} and {KEPT}-{LONG - 1} as Long-CLIP does",
                hint="The file mixes its two position tables in another way, which is not supported.",
            )
