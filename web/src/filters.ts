/** The fields that narrow a search down, kept in step with the state. */

import type { Collection } from "./api";
import { byId, make } from "./dom";
import { type Bbox, type State, filtersSet } from "./state";

const EDGES = ["west", "south", "east", "north"] as const;
const FIELDS = { since: "since", until: "until", gsdMin: "gsd-min", gsdMax: "gsd-max" } as const;

export function offerArchives(collections: Collection[], onChange: () => void): void {
  byId("archives-field").hidden = collections.length < 2;
  byId("archives").replaceChildren(...collections.map(({ id }) =>
    make("label.check", {}, make("input", { type: "checkbox", value: id }), id)));
  byId("archives").addEventListener("change", onChange);
}

function checks(): HTMLInputElement[] {
  return [...byId("archives").querySelectorAll<HTMLInputElement>("input")];
}

export function showFilters(state: State): void {
  EDGES.forEach((edge, index) => { byId<HTMLInputElement>(edge).value = state.bbox ? String(state.bbox[index]) : ""; });
  for (const [key, id] of Object.entries(FIELDS)) byId<HTMLInputElement>(id).value = state[key as keyof typeof FIELDS];
  for (const check of checks()) check.checked = !state.archives.length || state.archives.includes(check.value);
  const count = filtersSet(state);
  byId("filter-count").textContent = count ? String(count) : "";
}

/** Take the fields into the state; a half-filled box is no box. All archives checked, or none, is no filter. */
export function readFilters(state: State): void {
  const edges = EDGES.map((edge) => byId<HTMLInputElement>(edge).value);
  state.bbox = edges.every((edge) => edge !== "") ? (edges.map(Number) as Bbox) : null;
  for (const [key, id] of Object.entries(FIELDS)) state[key as keyof typeof FIELDS] = byId<HTMLInputElement>(id).value;
  const checked = checks().filter((check) => check.checked).map((check) => check.value);
  state.archives = checked.length === checks().length ? [] : checked;
}

export function clearFilters(state: State): void {
  Object.assign(state, { bbox: null, since: "", until: "", gsdMin: "", gsdMax: "", archives: [] });
}
