/** The map: graticule, outlines of scenes, places found, imagery, heat, and a box to draw. */

import type { Feature, FeatureCollection } from "geojson";
import * as maplibre from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?url";
import { type Basemap, type Collection, type Item, type Scene, heatTiles, local, tilejson } from "./api";
import { drawGraticule } from "./graticule";
import type { Bbox } from "./state";
import { say } from "./words";

const SCENES_DRAWN = 40;
/** Scenes whose pixels are drawn at most, nearest to the centre first: each is a layer of its own. */
const EMPTY: FeatureCollection = { type: "FeatureCollection", features: [] };
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export interface MapEvents {
  onHit(id: string): void;
  onBox(box: Bbox): void;
}

export class MapView {
  readonly map: maplibre.Map;
  readonly ready: Promise<void>;
  furnished = false;
  private scenes: Scene[] = [];
  private shown = new Set<string>();
  private imagery = true;
  private foreign = "";

  constructor(container: HTMLElement, private frame: HTMLElement, private events: MapEvents) {
    maplibre.setWorkerUrl(workerUrl);
    this.map = new maplibre.Map({
      container,
      style: { version: 8, sources: {}, layers: [{ id: "paper", type: "background" }] },
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      boxZoom: false,
      maxZoom: 21,
      zoom: 1,
      transformRequest: (url) => ({ url: this.isForeign(url) ? url : local(url), credentials: "same-origin" }),
      locale: { "NavigationControl.ZoomIn": say("zoomIn"), "NavigationControl.ZoomOut": say("zoomOut"), "Map.Title": say("mapHelp") },
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
    this.map.addControl(new maplibre.ScaleControl({ maxWidth: 120 }), "bottom-right");
    this.ready = new Promise((done) => this.map.once("load", () => {
      this.furnish();
      this.furnished = true;
      done();
    }));
  }

  /** Layers from bottom to top; imagery goes below `scene-lines`, heat below `hits`. */
  private furnish(): void {
    const map = this.map;
    for (const id of ["graticule", "scenes", "hits", "box"]) map.addSource(id, { type: "geojson", data: EMPTY });
    map.addLayer({ id: "graticule", type: "line", source: "graticule", paint: { "line-width": 0.6 } });
    map.addLayer({ id: "scene-fill", type: "fill", source: "scenes", paint: { "fill-opacity": 0.5 } });
    map.addLayer({ id: "scene-lines", type: "line", source: "scenes", paint: { "line-width": 0.8 } });
    map.addLayer({ id: "hits-halo", type: "line", source: "hits", paint: { "line-width": 5, "line-opacity": ["case", ["get", "faded"], 0.2, 0.55] } });
    map.addLayer({ id: "hits", type: "line", source: "hits", paint: { "line-width": ["case", ["get", "selected"], 3.5, 2], "line-opacity": ["case", ["get", "faded"], 0.5, 1] } });
    map.addLayer({ id: "hits-fill", type: "fill", source: "hits", paint: { "fill-opacity": 0 } });
    map.addLayer({ id: "dots", type: "circle", source: "hits", maxzoom: 22, filter: ["==", ["geometry-type"], "Point"],
      paint: { "circle-radius": ["case", ["get", "selected"], 8, 5], "circle-stroke-width": 2 } });
    map.addLayer({ id: "box", type: "line", source: "box", paint: { "line-width": 2, "line-dasharray": [3, 2] } });
    this.paint();
    map.on("move", () => drawGraticule(map, this.frame));
    map.on("resize", () => drawGraticule(map, this.frame));
    map.on("moveend", () => { this.drawScenes(); this.drawDots(); });
    for (const layer of ["hits-fill", "dots"]) {
      map.on("click", layer, (event) => this.events.onHit(String(event.features?.[0]?.properties["id"])));
      map.on("mouseenter", layer, () => map.getCanvas().classList.add("pointing"));
      map.on("mouseleave", layer, () => map.getCanvas().classList.remove("pointing"));
    }
    drawGraticule(map, this.frame);
  }

  /** Take the colours of the page, after it turned light or dark. */
  paint(): void {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const set = (layer: string, property: string, name: string) => {
      if (this.map.getLayer(layer)) this.map.setPaintProperty(layer, property as "line-color", colour(name));
    };
    set("paper", "background-color", "map");
    set("graticule", "line-color", "map-line");
    set("scene-fill", "fill-color", "map-scene");
    set("scene-lines", "line-color", "map-edge");
    set("hits-halo", "line-color", "map-halo");
    set("hits", "line-color", "map-hit");
    set("hits-fill", "fill-color", "map-hit");
    set("dots", "circle-color", "map-hit");
    set("dots", "circle-stroke-color", "map-halo");
    set("box", "line-color", "ink");
    if (this.map.getLayer("basemap")) {
      const dark = document.documentElement.dataset["theme"] === "dark";
      this.map.setPaintProperty("basemap", "raster-brightness-max", dark ? 0.45 : 1);
    }
  }

  private isForeign(url: string): boolean {
    return this.foreign !== "" && url.startsWith(this.foreign);
  }

  /** Lay a map from elsewhere at the bottom, pale, so that the imagery keeps the colour; or take it away. */
  setBasemap(basemap: Basemap | null): void {
    if (this.map.getLayer("basemap")) this.map.removeLayer("basemap");
    if (this.map.getSource("basemap")) this.map.removeSource("basemap");
    this.foreign = basemap ? new URL(basemap.url).origin : "";
    if (!basemap) return;
    this.map.addSource("basemap", { type: "raster", tiles: [basemap.url], tileSize: 256, maxzoom: 19 });
    this.map.addLayer({ id: "basemap", type: "raster", source: "basemap", paint: { "raster-saturation": -0.75, "raster-opacity": 0.8 } }, "graticule");
    this.paint();
  }

  home(collections: Collection[]): void {
    const boxes = collections.map((one) => one.extent.spatial.bbox[0]!).filter((box) => box[2]! - box[0]! < 359);
    if (boxes.length) this.fit(boxes as Bbox[], 0);
  }

  fit(boxes: Bbox[], duration = still() ? 0 : 700): void {
    const bounds = new maplibre.LngLatBounds();
    for (const [west, south, east, north] of boxes) {
      bounds.extend([west, south]).extend([east < west ? east + 360 : east, north]);
    }
    const side = Math.min(this.map.getContainer().clientWidth, this.map.getContainer().clientHeight);
    const edge = Math.max(24, side * 0.1);
    const covered = document.querySelector<HTMLElement>(".detail:not([hidden])");
    const bottom = covered && matchMedia("(min-width: 761px)").matches ? covered.offsetHeight + 60 : edge;
    if (boxes.length) this.map.fitBounds(bounds, { padding: { top: edge + 40, left: edge, right: edge, bottom }, maxZoom: 18, duration });
  }

  view(): Bbox {
    const bounds = this.map.getBounds();
    const lon = (value: number) => Number(((((value + 180) % 360) + 360) % 360 - 180).toFixed(4));
    const wide = bounds.getEast() - bounds.getWest() >= 360;
    const [south, north] = [Math.max(-90, bounds.getSouth()), Math.min(90, bounds.getNorth())];
    return [wide ? -180 : lon(bounds.getWest()), Number(south.toFixed(4)), wide ? 180 : lon(bounds.getEast()), Number(north.toFixed(4))];
  }

  setScenes(scenes: Scene[]): void {
    this.scenes = scenes.filter((scene) => scene.geometry);
    this.data("scenes", this.scenes.map((scene) => ({ type: "Feature", properties: {}, geometry: scene.geometry! })));
    this.drawScenes();
  }

  setImagery(on: boolean): void {
    this.imagery = on;
    this.drawScenes();
  }

  private hits: Item[] = [];
  private chosen = "";

  setHits(items: Item[], selected: string): void {
    [this.hits, this.chosen] = [items.filter((item) => item.geometry), selected];
    this.drawDots();
  }

  /** Outlines where they can be seen, dots where they would be too small. */
  private drawDots(): void {
    const features = this.hits.map((item): Feature => {
      const selected = item.id === this.chosen;
      const [west, south, east, north] = item.bbox!;
      const middle: [number, number] = [(west + (east < west ? east + 360 : east)) / 2, (south + north) / 2];
      const width = this.map.project([east, south]).x - this.map.project([west, south]).x;
      const geometry = Math.abs(width) < 10 ? { type: "Point" as const, coordinates: middle } : item.geometry!;
      return { type: "Feature", properties: { id: item.id, selected, faded: Boolean(this.chosen) && !selected }, geometry };
    });
    features.sort((a, b) => Number(a.properties!["selected"]) - Number(b.properties!["selected"]));
    this.data("hits", features);
  }

  /** Show where the archives fit a question, or nothing. */
  setHeat(names: string[], parameters: URLSearchParams | null): void {
    for (const id of Object.keys(this.map.getStyle().sources).filter((id) => id.startsWith("heat:"))) {
      this.map.removeLayer(id);
      this.map.removeSource(id);
    }
    if (!parameters) return;
    for (const name of names) {
      const id = `heat:${name}`;
      this.map.addSource(id, { type: "raster", tiles: [heatTiles(name, parameters)], tileSize: 256, maxzoom: 18 });
      this.map.addLayer({ id, type: "raster", source: id, paint: { "raster-opacity": 0.85 } }, "hits-halo");
    }
  }

  /** Lay a job's result over the imagery, or take it away. */
  setResult(tilejson: string | null): void {
    if (this.map.getLayer("result")) this.map.removeLayer("result");
    if (this.map.getSource("result")) this.map.removeSource("result");
    if (!tilejson) return;
    this.map.addSource("result", { type: "raster", url: tilejson, tileSize: 256 });
    this.map.addLayer({ id: "result", type: "raster", source: "result", paint: { "raster-opacity": 0.75 } }, "hits-halo");
  }

  setBox(box: Bbox | null): void {
    this.data("box", box ? [{ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: ring(box) } }] : []);
  }

  /** Let a box be dragged; the returned function cancels. */
  draw(): () => void {
    const canvas = this.map.getCanvas();
    this.map.dragPan.disable();
    canvas.classList.add("drawing");
    let start: maplibre.LngLat | null = null;
    const corners = (to: maplibre.LngLat): Bbox => [
      Math.min(start!.lng, to.lng), Math.min(start!.lat, to.lat), Math.max(start!.lng, to.lng), Math.max(start!.lat, to.lat),
    ].map((value) => Number(value.toFixed(4))) as Bbox;
    const down = (event: maplibre.MapMouseEvent | maplibre.MapTouchEvent) => { start = event.lngLat; };
    const move = (event: maplibre.MapMouseEvent | maplibre.MapTouchEvent) => { if (start) this.setBox(corners(event.lngLat)); };
    const up = (event: maplibre.MapMouseEvent | maplibre.MapTouchEvent) => {
      const box = start && corners(event.lngLat);
      stop();
      if (box && box[0] < box[2] && box[1] < box[3]) this.events.onBox(box);
    };
    const pairs = [["mousedown", down], ["mousemove", move], ["mouseup", up], ["touchstart", down], ["touchmove", move], ["touchend", up]] as const;
    const stop = () => {
      for (const [name, listener] of pairs) this.map.off(name, listener);
      this.map.dragPan.enable();
      canvas.classList.remove("drawing");
    };
    for (const [name, listener] of pairs) this.map.on(name, listener);
    return stop;
  }

  /** Layers for the scenes of the view, at most SCENES_DRAWN; those that left it are taken away. */
  private drawScenes(): void {
    const bounds = this.map.getBounds();
    const middle = bounds.getCenter();
    const near = this.scenes
      .map((scene) => ({ scene, box: extent(scene) }))
      .filter(({ scene, box }) => this.imagery && tilejson(scene) && box.west < bounds.getEast() && box.east > bounds.getWest()
        && box.south < bounds.getNorth() && box.north > bounds.getSouth())
      .sort((a, b) => a.box.away(middle) - b.box.away(middle))
      .slice(0, SCENES_DRAWN);
    const wanted = new Map(near.map(({ scene }) => [`scene:${scene.id}`, scene]));
    for (const id of this.shown) {
      if (wanted.has(id)) continue;
      this.map.removeLayer(id);
      this.map.removeSource(id);
      this.shown.delete(id);
    }
    for (const [id, scene] of wanted) {
      if (this.shown.has(id)) continue;
      this.map.addSource(id, { type: "raster", url: tilejson(scene)!, tileSize: 256 });
      this.map.addLayer({ id, type: "raster", source: id, paint: { "raster-fade-duration": 150 } }, "scene-lines");
      this.shown.add(id);
    }
    const coarseFirst = [...wanted].sort(([, a], [, b]) => (b.properties.gsd ?? 0) - (a.properties.gsd ?? 0));
    for (const [id] of coarseFirst) this.map.moveLayer(id, "scene-lines");  // the finest pixels on top
  }

  private data(source: string, features: Feature[]): void {
    (this.map.getSource(source) as maplibre.GeoJSONSource | undefined)?.setData({ type: "FeatureCollection", features });
  }
}

function ring([west, south, east, north]: Bbox): number[][] {
  const right = east < west ? east + 360 : east;
  return [[west, south], [right, south], [right, north], [west, north], [west, south]];
}

interface Extent {
  west: number; south: number; east: number; north: number;
  away(from: maplibre.LngLat): number;
}

function extent(scene: Scene): Extent {
  const flat = (value: unknown): number[][] =>
    Array.isArray(value) ? (typeof value[0] === "number" ? [value as number[]] : value.flatMap(flat)) : [];
  const points = flat((scene.geometry as { coordinates?: unknown } | null)?.coordinates);
  const [lons, lats] = [points.map((point) => point[0]!), points.map((point) => point[1]!)];
  const [west, east, south, north] = [Math.min(...lons), Math.max(...lons), Math.min(...lats), Math.max(...lats)];
  return { west, east, south, north, away: (from) => Math.hypot((west + east) / 2 - from.lng, (south + north) / 2 - from.lat) };
}
