/** The server, as docs/reference/rest.md describes it. Every address is taken relative to where the page lies. */

import type { Geometry } from "geojson";

export const ROOT = new URL("../", document.baseURI).href;

export interface Link {
  rel: string;
  href: string;
}

export interface Collection {
  id: string;
  extent: { spatial: { bbox: number[][] } };
  "geoglot:chips": number;
  "geoglot:scenes": number;
  "geoglot:calibrated": boolean;
  "geoglot:languages": string[];
}

/** What the operator set: a map from elsewhere, below the scenes, is the one thing fetched from another server. */
export interface Basemap {
  url: string;
  credit: string;
}

export interface Scene {
  type: "Feature";
  id: string;
  geometry: Geometry | null;
  properties: { title: string; datetime: string | null; gsd: number | null };
  links: Link[];
}

export interface Item {
  type: "Feature";
  id: string;
  collection: string;
  geometry: Geometry | null;
  bbox?: [number, number, number, number];
  properties: {
    datetime: string | null;
    title: string;
    gsd?: number;
    platform?: string;
    "geoglot:scene": string;
    "geoglot:ground_m"?: number;
    "geoglot:rank"?: number;
    "geoglot:score"?: number;
    "geoglot:confidence"?: number | null;
    "geoglot:merged"?: number;
  };
  links: Link[];
}

export interface Answer {
  features: Item[];
  links: Link[];
  "geoglot:search"?: {
    nothing_matches: boolean;
    calibrated: boolean;
    total: number;
    elapsed_s: number;
    undated: number;
    unplaced: number;
    moved_on: boolean;
  };
}

/** What the server says when it refuses (RFC 7807). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint = "",
  ) {
    super(message);
  }
}

/** An address of this server, whatever name the server gave itself in a link: the page asks nobody else. */
export function local(href: string): string {
  const at = href.search(/(collections|search|pictures|jobs)(\/|\?|$)/);
  return at < 0 ? href : ROOT + href.slice(at);
}

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(ROOT + path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, body.detail ?? response.statusText, body.hint ?? "");
  return body as T;
}

export function post<T>(path: string, body: unknown): Promise<T> {
  return ask<T>(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
}

export function settings(): Promise<{ title: string; basemap: Basemap | null }> {
  return ask("settings");
}

export async function collections(): Promise<Collection[]> {
  return (await ask<{ collections: Collection[] }>("collections")).collections;
}

/** Outlines of an archive's scenes; the map draws at most this many. */
export async function scenes(collection: string, limit = 1000): Promise<Scene[]> {
  return (await ask<{ features: Scene[] }>(`collections/${encodeURIComponent(collection)}/scenes?limit=${limit}`)).features;
}

export function search(parameters: URLSearchParams, signal: AbortSignal): Promise<Answer> {
  return ask<Answer>(`search?${parameters}`, { signal });
}

/** The token of the next page, if there is one. */
export function nextToken(answer: Answer): string | null {
  const next = answer.links.find((link) => link.rel === "next");
  return next ? new URL(next.href, ROOT).searchParams.get("token") : null;
}

export async function picture(file: File, collection?: string): Promise<string> {
  const body = new FormData();
  body.append("file", file);
  if (collection) body.append("collection", collection);
  return (await ask<{ picture: string }>("pictures", { method: "POST", body })).picture;
}

export function thumbnail(item: Pick<Item, "collection" | "id">, side: number): string {
  return `${ROOT}collections/${encodeURIComponent(item.collection)}/items/${item.id}/thumbnail.webp?side=${side}`;
}

export function fullPicture(item: Item): string {
  return `${ROOT}collections/${encodeURIComponent(item.collection)}/items/${item.id}/picture.png`;
}

export function tilejson(thing: { links: Link[] }): string | null {
  const link = thing.links.find((candidate) => candidate.rel === "tilejson");
  return link ? local(link.href) : null;
}

export function heatTiles(collection: string, parameters: URLSearchParams): string {
  return `${ROOT}collections/${encodeURIComponent(collection)}/heat/tiles/WebMercatorQuad/{z}/{x}/{y}.png?${parameters}`;
}
