"""Drawn pictures instead of photographs: the one seam between geoglot and the import package `geoglot_sandbox`.

The demo draws a country, smoke runs and model comparisons draw single chips. Nothing else in geoglot needs the sandbox,
and nothing but this module imports it. All of it is synthetic; equal seeds give equal pixels.
"""

from __future__ import annotations

from geoglot_sandbox.country import CountryReport, draw_country
from geoglot_sandbox.samples import KINDS, Sample, draw_sample

__all__ = ["KINDS", "CountryReport", "Sample", "draw_country", "draw_sample"]
