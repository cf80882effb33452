"""Dates and sensors from names and tags."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from geoglot.imagery.provenance import date_in_name, date_of, known_sensor, sensor_of


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("m_4709963_se_14_1_20090818", datetime(2009, 8, 18)),
        ("S2A_MSIL2A_20230914T020651_N0509_R103", datetime(2023, 9, 14, 2, 6, 51)),
        ("LC08_L2SP_001067_20150812_20200909_02_T1", datetime(2015, 8, 12)),
        ("town 2023-09-14", datetime(2023, 9, 14)),
        ("2015", datetime(2015, 1, 1)),
        ("korea_202309_00", datetime(2023, 9, 1)),
        ("1965", None),
        ("scene_2015_b", None),
        ("zanzibar_319296_270996", None),
        ("20230231", None),
        ("x_120230914_7", None),
        ("", None),
    ],
)
def test_date_in_name(stem: str, expected: datetime | None) -> None:
    assert date_in_name(stem) == (expected and expected.replace(tzinfo=UTC))


def test_tags_that_say_acquired_win_and_tags_that_say_written_lose() -> None:
    written = {"TIFFTAG_DATETIME": "2021:02:03 04:05:06"}
    assert date_of(written, "x") == datetime(2021, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert date_of(written, "x_20090818") == datetime(2009, 8, 18, tzinfo=UTC)
    assert date_of({**written, "ACQUISITIONDATETIME": "2010-01-02"}, "x_20090818") == datetime(2010, 1, 2, tzinfo=UTC)
    assert date_of({"TIFFTAG_DATETIME": "0000:00:00 00:00:00"}, "x") is None


@pytest.mark.parametrize(
    ("name", "sensor"),
    [
        ("S2B_MSIL1C_20200101T000000.tif", "sentinel-2"),
        ("T52SCD_20230914T020651_TCI_10m.jp2", "sentinel-2"),
        ("S1A_IW_GRDH.tif", "sentinel-1"),
        ("LC08_L2SP_001067.tif", "landsat-8"),
        ("LC09_L1TP.tif", "landsat-9"),
        ("LE07_L1TP.tif", "landsat-7"),
        ("landsat", "landsat"),
        ("Landsat-8", "landsat-8"),
        ("m_4709963_se_14_1_20090818.tif", "naip"),
        ("sentinel2", "sentinel-2"),
        ("WV02.tif", "worldview"),
        ("town.tif", None),
        ("s2.tif", None),
    ],
)
def test_known_sensor(name: str, sensor: str | None) -> None:
    assert known_sensor(name) == sensor


def test_sensor_order_tags_name_folder() -> None:
    assert sensor_of({"SENSOR": "MyCam 3"}, "S2A_x.tif", "landsat") == "mycam 3"
    assert sensor_of({}, "S2A_x.tif", "landsat") == "sentinel-2"
    assert sensor_of({}, "2015.tif", "landsat") == "landsat"
    assert sensor_of({}, "2015.tif", "scenes") is None
