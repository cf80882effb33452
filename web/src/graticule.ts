/** Lines of longitude and latitude, and their degrees along the map's frame: the page's only "basemap". */

import type { Feature } from "geojson";
import type { Map as MapView } from "maplibre-gl";

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000, 108000];
/** Seconds of arc that read well. */
const LABEL_PX = 116;
const MAX_LAT = 85;

/** The finest step, in degrees, whose labels do not run into each other. */
export function step(degreesPerPixel: number): number {
  const least = degreesPerPixel * LABEL_PX * 3600;
  return (STEPS.find((candidate) => candidate >= least) ?? STEPS[STEPS.length - 1]!) / 3600;
}

function ticks(low: number, high: number, by: number): number[] {
  const first = Math.ceil(low / by - 1e-9);
  const last = Math.floor(high / by + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => (first + index) * by);
}

/** 32.5, "EW" -> 32°30′E */
export function degrees(value: number, ends: "EW" | "NS"): string {
  const wrapped = ends === "EW" ? ((((value + 180) % 360) + 360) % 360) - 180 : value;
  const seconds = Math.round(Math.abs(wrapped) * 3600);
  const [d, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const side = seconds === 0 ? "" : wrapped > 0 ? ends[0]! : ends[1]!;
  const two = (part: number) => String(part).padStart(2, "0");
  return `${d}°${m || s ? `${two(m)}′` : ""}${s ? `${two(s)}″` : ""}${side}`;
}

function lines([west, south, east, north]: number[], by: number): { features: Feature[]; lons: number[]; lats: number[] } {
  const lons = ticks(west!, east!, by);
  const lats = ticks(Math.max(south!, -MAX_LAT), Math.min(north!, MAX_LAT), by);
  const line = (coordinates: number[][]): Feature => ({ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates } });
  const features = [
    ...lons.map((lon) => line([[lon, -MAX_LAT], [lon, MAX_LAT]])),
    ...lats.map((lat) => line([[west!, lat], [east!, lat]])),
  ];
  return { features, lons, lats };
}

/** Draw the lines of the view into the source `graticule`, and their degrees into the frame. */
export function drawGraticule(map: MapView, frame: HTMLElement): void {
  const bounds = map.getBounds();
  const [west, south, east, north] = [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
  const { clientWidth: width, clientHeight: height } = frame;
  const { features, lons, lats } = lines([west, south, east, north], step((east - west) / Math.max(width, 1)));
  const source = map.getSource("graticule") as { setData(data: unknown): void } | undefined;
  source?.setData({ type: "FeatureCollection", features });
  const label = (text: string, side: string, at: number) => {
    const element = document.createElement("span");
    element.textContent = text;
    element.className = side;
    element.style.setProperty(side === "bottom" ? "left" : "top", `${at}px`);
    return element;
  };
  const middle = map.getCenter();
  frame.replaceChildren(
    ...lons.map((lon) => [degrees(lon, "EW"), map.project([lon, middle.lat]).x] as const)
      .filter(([, x]) => x > 70 && x < width - 150)
      .map(([text, x]) => label(text, "bottom", x)),
    ...lats.map((lat) => [degrees(lat, "NS"), map.project([middle.lng, lat]).y] as const)
      .filter(([, y]) => y > 60 && y < height - 60)
      .map(([text, y]) => label(text, "left", y)),
  );
}
