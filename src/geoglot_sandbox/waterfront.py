"""Layouts between land and water: marinas and docks; and tank farms, which stand beside them."""

from __future__ import annotations

import math

from geoglot_sandbox.objects import block, scatter, ship, tank, trees, truck
from geoglot_sandbox.town import parking_lot
from geoglot_sandbox.world import Plot

DOCK_M = 190.0
"""From pier to pier in a dock for cargo ships."""


def harbor(p: Plot) -> None:
    """A quay with piers and boats, or docks for cargo ships."""
    p.ground("harbor_water", "harbor", rows=(0.4, 7.0, 0.02))
    land = p.rng.uniform(0.08, 0.3) * p.height
    p.rect("concrete", 0, p.height / 2 - land / 2, p.width, land, "harbor")
    if p.height - land > 150 and p.rng.random() < 0.5:
        dock(p, land)
    else:
        marina(p, land)
    if land > 24:
        q = p.sub(0, p.height / 2 - land / 2 + 2, p.width * 0.9, land - 10)
        parking_lot(q) if p.rng.random() < 0.5 else block(
            q, 0, 0, q.width * 0.4, q.height * 0.6, concept="warehouse", material="metal_roof"
        )


def marina(p: Plot, land: float) -> None:
    """Floating piers with berths on both sides."""
    boat = p.rng.uniform(8, 17)
    pitch, top = boat * 2 + p.rng.uniform(9, 20), p.height / 2 - land
    reach = (p.height - land) * p.rng.uniform(0.55, 0.95)
    fill = p.rng.uniform(0.45, 0.98)
    count = max(1, int(p.width / pitch))
    for i in range(count):
        x = (i - (count - 1) / 2) * pitch
        part = p.object("pier")
        p.rect("wood", x, top - reach / 2, 2.4, reach, "pier", part_of=part, height=1.0)
        if p.far:
            p.rect("hull", x, top - reach / 2, boat * 2, reach, "harbor")
            continue
        berth = boat * p.rng.uniform(0.34, 0.42)
        for j in range(int((reach - 6) / berth)):
            y = top - 6 - (j + 0.5) * berth
            for side in (-1, 1):
                if j % 2 == 0:
                    p.rect("wood", x + side * boat * 0.45, y - berth / 2, boat * 0.8, 0.7, "pier", level=1)
                if p.rng.random() < fill:
                    size = boat * p.rng.uniform(0.72, 1.0)
                    ship(p, x + side * (1.8 + size / 2), y, size, 0.0 if p.rng.random() < 0.5 else math.pi)


def dock(p: Plot, land: float) -> None:
    """Quay walls with cargo ships alongside, sheds and containers."""
    top, width = p.height / 2 - land, p.rng.uniform(40, 60)
    count = max(1, int(p.width / DOCK_M))
    for i in range(count):
        x = (i - (count - 1) / 2) * DOCK_M
        reach = min(p.height - land, p.rng.uniform(150, 260))
        part = p.object("pier")
        p.rect("concrete", x, top - reach / 2, width, reach, "pier", part_of=part, height=2.5)
        block(p, x, top - reach * 0.3, width * 0.4, reach * 0.45, concept="warehouse", material="metal_roof")
        for u, v in scatter(p.sub(0, 0, width * 0.8, reach * 0.3), 18):
            p.rect("cargo", x + u, top - reach * 0.78 + v, 12, 2.6, angle=math.pi / 2, height=3)
        for side in (-1, 1):
            if p.rng.random() < 0.85:
                length = reach * p.rng.uniform(0.55, 0.9)
                ship(
                    p,
                    x + side * (width / 2 + length * 0.08 + 3),
                    top - reach / 2,
                    length,
                    math.pi / 2 * p.rng.choice((-1, 1)),
                    cargo=length > 60,
                )


def storage_tank(p: Plot) -> None:
    """A tank farm: tanks in a grid inside low walls, pipes and service roads."""
    p.ground(p.rng.choice(("bare", "concrete", "grass", "soil")), "industrial")
    radius = min(p.rng.uniform(5, 24), min(p.width, p.height) * 0.16)
    pitch = radius * p.rng.uniform(2.5, 3.4)
    nx, ny = max(1, int(p.width / pitch)), max(1, int(p.height / pitch))
    mixed = p.rng.random() < 0.4
    ground = p.rng.choice(("concrete", "bare", "soil"))
    for i in range(nx):
        for j in range(ny):
            x, y = (i - (nx - 1) / 2) * pitch, (j - (ny - 1) / 2) * pitch
            if p.rng.random() < 0.14:
                continue
            p.rect(ground, x, y, pitch * 0.95, pitch * 0.95)
            for u, v, w, h in (
                (0, 0.48, 0.96, 0.02),
                (0, -0.48, 0.96, 0.02),
                (0.48, 0, 0.02, 0.96),
                (-0.48, 0, 0.02, 0.96),
            ):
                p.rect("concrete", x + u * pitch, y + v * pitch, w * pitch, h * pitch, height=1.2)
            tank(p, x, y, radius * (p.rng.uniform(0.45, 1.0) if mixed else p.rng.uniform(0.93, 1.0)))
        lane = (i - nx / 2) * pitch
        if i % 2 == 0:
            p.rect("asphalt", lane, 0, min(6.0, pitch * 0.16), p.height, "road")
        for k in range(3):
            p.rect("metal_roof", lane + 5 + k * 0.9, 0, 0.45, p.height, height=1)
    for x, y in scatter(p, 0 if p.far else 4):
        truck(p, x, y, math.pi / 2)
    if p.rng.random() < 0.3:
        trees(p.sub(0, -p.height * 0.46, p.width, p.height * 0.08), 120)
