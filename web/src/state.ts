/** What is asked and shown, and the same as an address that can be passed on. */

export type Sign = "+" | "-";
export type Bbox = [number, number, number, number];

/** A picture or a chip that stands in the question beside its words. */
export interface Term {
  sign: Sign;
  kind: "chip" | "image";
  value: string;
}

export interface State {
  text: string;
  terms: Term[];
  bbox: Bbox | null;
  since: string;
  until: string;
  gsdMin: string;
  gsdMax: string;
  archives: string[];
  selected: string;
  heat: boolean;
  misses: boolean;
}

export function emptyState(): State {
  return {
    text: "", terms: [], bbox: null, since: "", until: "", gsdMin: "", gsdMax: "",
    archives: [], selected: "", heat: false, misses: false,
  };
}

/** The question in the server's grammar: words are quoted where pictures or chips stand beside them. */
export function question(state: Pick<State, "text" | "terms">): string {
  const text = state.text.trim();
  if (!state.terms.length) return text;
  const words = text && !text.includes('"') ? `"${text}"` : text;
  const terms = [...state.terms].sort((a, b) => Number(a.sign === "-") - Number(b.sign === "-"));
  return terms.reduce(
    (said, { sign, kind, value }) => (said || sign === "-" ? `${said} ${sign} ` : "") + `${kind}:${value}`,
    words,
  ).trim();
}

/** The parameters of GET /search, without a limit or a page. */
export function parameters(state: State): URLSearchParams {
  const found = asked(state);
  if (state.bbox) found.set("bbox", state.bbox.join(","));
  if (state.archives.length) found.set("collections", state.archives.join(","));
  if (state.misses) found.set("all", "true");
  return found;
}

/** The parameters that say what; heat takes these. */
export function asked(state: State): URLSearchParams {
  const found = new URLSearchParams();
  const q = question(state);
  if (q) found.set("q", q);
  const from = state.since && `${state.since}T00:00:00Z`;
  const to = state.until && `${state.until}T23:59:59Z`;
  if (from || to) found.set("datetime", `${from || ".."}/${to || ".."}`);
  if (state.gsdMin) found.set("gsd_min", state.gsdMin);
  if (state.gsdMax) found.set("gsd_max", state.gsdMax);
  return found;
}

const NAMES = { text: "q", since: "since", until: "until", gsdMin: "gsd_min", gsdMax: "gsd_max", selected: "chip" } as const;

export function toAddress(state: State): URLSearchParams {
  const found = new URLSearchParams();
  for (const [key, name] of Object.entries(NAMES)) {
    const value = state[key as keyof typeof NAMES].trim();
    if (value) found.set(name, value);
  }
  for (const { sign, kind, value } of state.terms) found.append("term", `${sign}${kind}:${value}`);
  if (state.bbox) found.set("bbox", state.bbox.join(","));
  for (const name of state.archives) found.append("in", name);
  if (state.heat) found.set("heat", "1");
  if (state.misses) found.set("misses", "1");
  return found;
}

export function fromAddress(address: URLSearchParams): State {
  const state = emptyState();
  for (const [key, name] of Object.entries(NAMES)) state[key as keyof typeof NAMES] = address.get(name) ?? "";
  for (const text of address.getAll("term")) {
    const parts = /^([+-])(chip|image):(.+)$/.exec(text);
    if (parts) state.terms.push({ sign: parts[1] as Sign, kind: parts[2] as Term["kind"], value: parts[3]! });
  }
  const box = (address.get("bbox") ?? "").split(",").map(Number);
  if (box.length === 4 && box.every(Number.isFinite)) state.bbox = box as Bbox;
  state.archives = address.getAll("in");
  state.heat = address.get("heat") === "1";
  state.misses = address.get("misses") === "1";
  return state;
}

export function filtersSet(state: State): number {
  const set = [state.bbox, state.since || state.until, state.gsdMin || state.gsdMax, state.archives.length];
  return set.filter(Boolean).length;
}
