"""Noise that belongs to the ground: the same place has the same value in every scene and at every resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


def lattice(ix: NDArray[np.int64], iy: NDArray[np.int64], seed: int) -> Floats:
    """Hash integer lattice points to [0, 1). Arrays broadcast; the mixing steps are those of a 32-bit integer hash."""
    h = (ix.astype(np.uint64) * 0x9E3779B1 + iy.astype(np.uint64) * 0x85EBCA77 + np.uint64(seed * 0xC2B2AE3D)).astype(
        np.uint32
    )
    h ^= h >> 15
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> 12
    h *= np.uint32(0x297A2D39)
    h ^= h >> 15
    return (h >> 8).astype(np.float32) / np.float32(1 << 24)


def value_noise(origin: tuple[float, float], gsd_m: float, size: tuple[int, int], wave_m: float, seed: int) -> Floats:
    """Smooth noise in [-1, 1], float32 [H, W].

    Args:
        origin: Ground (x, y) in metres of the top left pixel corner; y falls downwards.
        gsd_m: Metres per pixel.
        size: (width, height) in pixels.
        wave_m: Distance between lattice points in metres.
        seed: Which noise.
    """
    width, height = size
    left, top = origin[0] / wave_m, -origin[1] / wave_m
    span_x, span_y = width * gsd_m / wave_m, height * gsd_m / wave_m
    i0, j0 = int(np.floor(left)) - 2, int(np.floor(top)) - 2
    ix = np.arange(i0, i0 + int(np.ceil(span_x)) + 6, dtype=np.int64)
    iy = np.arange(j0, j0 + int(np.ceil(span_y)) + 6, dtype=np.int64)
    cells = lattice(ix[None, :], iy[:, None], seed) * 2 - 1
    box = (left - i0, top - j0, left - i0 + span_x, top - j0 + span_y)
    grid = Image.fromarray(np.ascontiguousarray(cells))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=box), np.float32)


def crown_noise(x: Floats, y: Floats, cell_m: float, sun: tuple[float, float], seed: int) -> Floats:
    """Brightness of a closed canopy seen from above, about [-1, 1], at N ground points in metres.

    One crown per jittered lattice cell: a dome, lit from the sun's side, with a tone of its own; dark between. Cost:
    nine distance evaluations per point.

    Args:
        x, y: Ground coordinates in metres [N].
        cell_m: Mean distance between crowns.
        sun: Unit vector that points to the sun, (east, north).
        seed: Which forest.
    """
    u, v = x / cell_m, y / cell_m
    iu, iv = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    best = np.full(u.shape, np.inf, np.float32)
    lit = np.zeros_like(best)
    tone = np.zeros_like(best)
    for du in (-1, 0, 1):
        for dv in (-1, 0, 1):
            cu, cv = iu + du, iv + dv
            a, b = lattice(cu, cv, seed), lattice(cu, cv, seed + 1)
            ru, rv = u - cu - a, v - cv - b
            radius = 0.55 + 0.35 * lattice(cu, cv, seed + 2)
            dist = (ru * ru + rv * rv) / (radius * radius)
            near = dist < best
            best = np.where(near, dist, best)
            lit = np.where(near, (ru * sun[0] + rv * sun[1]) / radius, lit)
            tone = np.where(near, a, tone)
    dome = np.sqrt(np.maximum(0.0, 1.0 - best))
    return np.where(best < 1.0, 0.5 * lit + 0.6 * (tone - 0.5) + 0.7 * (dome - 0.62), -0.75).astype(np.float32)
