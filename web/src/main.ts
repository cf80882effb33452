/** The page put together: what people do changes the state, the state is asked, and the answer is shown. */

import "@fontsource-variable/literata/wght.css";
import "@fontsource-variable/onest/wght.css";
import "maplibre-gl/dist/maplibre-gl.css";
import "./style.css";
import * as api from "./api";
import { card, fillDetail } from "./cards";
import { button, byId, make } from "./dom";
import { clearFilters, offerArchives, readFilters, showFilters } from "./filters";
import { MapView } from "./map";
import * as jobs from "./jobs";
import { type Sign, type State, asked, fromAddress, parameters, question, toAddress } from "./state";
import { applyTheme, followSystem, nextTheme, theme } from "./theme";
import { LANGUAGES, type Word, language, number, preferred, say, speak } from "./words";

const PAGE = 24;
const DOWNLOAD = 1000;
let state: State = fromAddress(new URLSearchParams(location.search));
let collections: api.Collection[] = [];
let basemap: api.Basemap | null = null;
let answer: api.Answer | null = null;
let items: api.Item[] = [];
let problem: api.Problem | null = null;
let looking: AbortController | null = null;
let cancelDrawing: (() => void) | null = null;
let map: MapView | null = null;
const previews = new Map<string, string>();
const box = byId<HTMLTextAreaElement>("q");

// What is asked

async function search(): Promise<void> {
  looking?.abort();
  looking = new AbortController();
  [answer, items, problem] = [null, [], null];
  if (!question(state)) return show();
  show();
  await fetchPage(looking.signal);
  show();
  cardOf(state.selected)?.scrollIntoView({ block: "nearest" });
  const placed = items.flatMap((item) => item.bbox ?? []);
  const chosen = items.find((item) => item.id === state.selected);
  if (chosen?.bbox) map?.fit([chosen.bbox]);
  else if (placed.length) map?.fit(items.flatMap((item) => (item.bbox ? [item.bbox] : [])));
}

async function fetchPage(signal: AbortSignal, token: string | null = null): Promise<void> {
  const wanted = parameters(state);
  wanted.set("limit", String(PAGE));
  if (token) wanted.set("token", token);
  try {
    const page = await api.search(wanted, signal);
    if (signal.aborted) return;
    answer = page;
    items.push(...page.features);
  } catch (error) {
    if (!(error instanceof api.Problem)) {
      if (signal.aborted) return;
      throw error;
    }
    problem = error;
    if (error.status === 401) askForKey();
  }
}

/** Change the question or its filters: a new entry in the browser's history, and a new search. */
function change(edit: Partial<State>): void {
  leaveJob();
  Object.assign(state, { selected: "", misses: false }, edit);
  remember(true);
  fillForm();
  void search();
}

function remember(asNew = false): void {
  const address = toAddress(state).toString();
  const url = address ? `?${address}` : location.pathname;
  if (asNew) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

function submit(): void {
  readFilters(state);
  change({ text: box.value.replace(/\s+/g, " ").trim() });
}

function addTerm(kind: "chip" | "image", value: string, sign: Sign = "+"): void {
  const others = state.terms.filter((term) => term.value !== value);
  change({ text: box.value.trim(), terms: [...others, { sign, kind, value }] });
}

async function addPicture(file: File): Promise<void> {
  byId("status").textContent = say("looking");
  try {
    const token = await api.picture(file, state.archives[0]);
    previews.set(token, URL.createObjectURL(file));
    addTerm("image", token);
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
    problem = error;
    if (error.status === 401) askForKey();
    show();
  }
}

// What is shown

function show(): void {
  document.title = [state.text.trim(), "geoglot"].filter(Boolean).join(" · ");
  showStatus();
  showEmpty();
  showCards();
  showDetail();
  showHeat();
  map?.setHits(items, state.selected);
}

function showStatus(): void {
  const said = answer?.["geoglot:search"];
  const waiting = question(state) && !answer && !problem;
  document.body.classList.toggle("looking", Boolean(waiting));
  byId("actions").hidden = !items.length;
  byId("more").hidden = !answer || !api.nextToken(answer) || !items.length;
  byId<HTMLAnchorElement>("download").href = `${api.ROOT}search?${parameters(state)}&limit=${DOWNLOAD}`;
  byId("status").textContent = waiting ? say("looking") : statusOf();
  byId("status").classList.toggle("hidden", Boolean(answer) && !items.length);  // said large below
  const notes = [
    said?.nothing_matches && items.length ? say("misses") : "",
    said && !said.calibrated && items.length ? say("uncalibrated") : "",
    said?.undated ? say("undated", { n: number(said.undated) }) : "",
    said?.unplaced ? say("unplaced", { n: number(said.unplaced) }) : "",
  ].filter(Boolean);
  byId("note").hidden = !notes.length;
  byId("note").textContent = notes.join(" ");
}

function statusOf(): string {
  const said = answer?.["geoglot:search"];
  if (problem || !said) return "";
  if (!items.length) return say("nothing");
  const more = answer && api.nextToken(answer);
  return say(more ? "foundSome" : "found", { n: number(items.length), total: number(said.total) });
}

/** What stands where the cards would: examples, a problem, or that nothing matches. */
function showEmpty(): void {
  const place = byId("empty");
  place.replaceChildren();
  if (problem) {
    const offline = problem.status === 0;
    place.append(make("div.problem", { role: "alert" },
      make("p", {}, offline ? say("offline") : problem.message), problem.hint ? make("p.hint", {}, problem.hint) : null));
  } else if (!question(state)) {
    place.append(welcome());
  } else if (answer && !items.length) {
    const said = answer["geoglot:search"];
    place.append(make("div.nothing", {},
      make("p.big", { "aria-hidden": "true" }, say("nothing")),
      make("p", {}, said?.total ? say("nothingWhy") : say("nothingFiltered")),
      said?.total ? button(say("showMisses"), () => change({ misses: true })) : button(say("clearFilters"), resetFilters)));
  }
}

function welcome(): HTMLElement {
  const sum = (key: "geoglot:chips" | "geoglot:scenes") => number(collections.reduce((all, one) => all + one[key], 0));
  return make("div.welcome", {},
    make("p.big", {}, say("tagline")),
    collections.length ? make("p", {}, say("summary", { chips: sum("geoglot:chips"), scenes: sum("geoglot:scenes") })) : null,
    make("ul.examples", { "aria-label": say("examples") }, ...(["example1", "example2", "example3"] as Word[]).map((word) =>
      make("li", {}, button(say(word), () => change({ text: say(word) }), "button.example")))));
}

function showCards(): void {
  byId("cards").replaceChildren(...items.map((item) => card(item, item.id === state.selected, (byKey) => {
    select(item.id);
    if (byKey) byId("detail").focus();  // its buttons are next, and Esc leads back to the card
  })));
}

function showDetail(): void {
  const panel = byId("detail");
  const item = items.find((candidate) => candidate.id === state.selected);
  panel.hidden = !item;
  document.body.classList.toggle("detailed", Boolean(item));
  if (!item) return panel.replaceChildren();
  fillDetail(panel, item, collections.length > 1, {
    onClose: () => select(""),
    onZoom: () => item.bbox && map?.fit([item.bbox]),
    onLike: () => moreLike(item.id),
    onTerm: (sign) => addTerm("chip", item.id, sign),
    onWhere: state.text.trim() && !/["+]/.test(state.text) ? () => void lookInScene(item) : null,
  });
}

// Where in a scene: a job

let job: jobs.Job | null = null;
let unfollow: (() => void) | null = null;

async function lookInScene(item: api.Item): Promise<void> {
  leaveJob();
  const words = state.text.trim();
  const title = `${words} · ${item.properties.title}`;
  try {
    job = await jobs.localize(item.collection, item.properties["geoglot:scene"], words);
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
    return showJob(title, error.message || say("offline"));
  }
  showJob(title);
  unfollow = jobs.follow(job, (now) => {
    job = now;
    showJob(title);
    if (now.state === "done") map?.setResult(jobs.fileOf(now, "heat.tif")?.tilejson ?? null);
  });
}

function leaveJob(): void {
  unfollow?.();
  if (job && jobs.running(job)) void jobs.cancel(job);
  [job, unfollow] = [null, null];
  map?.setResult(null);
  byId("job").hidden = true;
}

function showJob(title: string, failure = job?.problem?.detail): void {
  const leave = button("×", leaveJob, "button.quiet.icon");
  leave.setAttribute("aria-label", say("close"));
  const bar = make("progress", { max: "1", value: String(job?.progress ?? 0), "aria-label": title });
  const files = ["regions.geojson", "heat.tif"].map((name) => job && jobs.fileOf(job, name));
  const links = files.map((file) => file && make("a.button.quiet", { href: file.href, download: file.name }, `↓ ${file.name}`));
  const state = failure ? [make("span", {}, failure)] : job?.state === "done" ? links.filter((link) => link !== null && link !== undefined) : [bar];
  byId("job").replaceChildren(make("b", {}, title), ...state, leave);
  byId("job").hidden = false;
}

function showHeat(): void {
  const on = state.heat && Boolean(question(state)) && !problem;
  const names = collections.map(({ id }) => id).filter((id) => !state.archives.length || state.archives.includes(id));
  byId<HTMLButtonElement>("heat").disabled = !question(state);
  byId("heat").setAttribute("aria-pressed", String(on));
  byId("legend").hidden = !on;
  const wanted = on ? JSON.stringify([names, asked(state).toString()]) : "";
  if (wanted !== shownHeat && map?.furnished) {
    shownHeat = wanted;
    map.setHeat(names, on ? asked(state) : null);
  }
}
let shownHeat = "";

function showTerms(): void {
  byId("terms").replaceChildren(...state.terms.map((term) => {
    const { sign, kind, value } = term;
    const flip = button(sign === "+" ? "+" : "−", () => addTerm(kind, value, sign === "+" ? "-" : "+"), "button.sign");
    flip.setAttribute("aria-label", `${say("change")}: ${sign}`);
    const remove = button("×", () => change({ text: box.value.trim(), terms: state.terms.filter((other) => other !== term) }), "button.remove");
    remove.setAttribute("aria-label", say("remove"));
    const source = kind === "image" ? previews.get(value) : chipPicture(value);
    const picture = source ? make("img", { src: source, alt: "" }) : make("span.blank");
    return make(sign === "+" ? "li" : "li.minus", {}, flip, picture, make("span", {}, say(kind === "image" ? "aPicture" : "aPlace")), remove);
  }));
}

/** Which archive a chip is of is known for chips seen here; for one from a link the archives are too many to try. */
function chipPicture(id: string): string | undefined {
  const home = homes.get(id) ?? (collections.length === 1 ? collections[0]!.id : undefined);
  return home && api.thumbnail({ collection: home, id }, 64);
}
const homes = new Map<string, string>();

function select(id: string): void {
  const before = state.selected;
  state.selected = id;
  remember();
  for (const element of byId("cards").querySelectorAll<HTMLElement>(".card")) {
    element.setAttribute("aria-pressed", String(element.dataset["id"] === id));
  }
  showDetail();
  map?.setHits(items, id);
  const item = items.find((candidate) => candidate.id === id);
  if (item?.bbox) map?.fit([item.bbox]);
  if (id) cardOf(id)?.scrollIntoView({ block: "nearest" });
  else cardOf(before)?.focus();
}

function cardOf(id: string): HTMLElement | null {
  return id ? byId("cards").querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"]`) : null;
}

function moreLike(id: string): void {
  change({ text: "", terms: [{ sign: "+", kind: "chip", value: id }] });
}

function fillForm(): void {
  box.value = state.text;
  grow();
  for (const item of items) homes.set(item.id, item.collection);
  showTerms();
  showFilters(state);
  map?.setBox(state.bbox);
}

function grow(): void {
  box.style.blockSize = "auto";
  box.style.blockSize = `${box.scrollHeight}px`;
}

// What people do

function resetFilters(): void {
  clearFilters(state);
  change({ text: box.value.trim() });
}

function startDrawing(): void {
  stopDrawing();
  if (!map) return;
  const cancel = map.draw();
  cancelDrawing = () => { cancel(); map?.setBox(state.bbox); };
  byId("draw").setAttribute("aria-pressed", "true");
  byId("drawing").hidden = false;
  byId("map").scrollIntoView({ block: "nearest" });  // on a phone it lies below the filters
}

function stopDrawing(): void {
  cancelDrawing?.();
  cancelDrawing = null;
  byId("draw").setAttribute("aria-pressed", "false");
  byId("drawing").hidden = true;
}

function setBox(bbox: State["bbox"]): void {
  stopDrawing();
  readFilters(state);
  change({ bbox, text: box.value.trim() });
}

function toggleHeat(): void {
  state.heat = !state.heat;
  remember();
  showHeat();
}

function step(by: number): void {
  const cards = [...byId("cards").querySelectorAll<HTMLElement>(".card")];
  const from = document.activeElement?.closest<HTMLElement>(".card") ?? cardOf(state.selected);
  const at = cards.findIndex((element) => element === from);
  const next = cards[Math.min(cards.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  next?.focus();
}

function onKey(event: KeyboardEvent): void {
  if (event.key === "Escape") {
    if (cancelDrawing) stopDrawing();
    else if (state.selected && !document.querySelector("dialog[open]")) select("");
    return;
  }
  const target = event.target as HTMLElement;
  const typing = target.matches("input, textarea, select") || target.closest("dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const onMap = target.closest("#map");
  const focused = target.closest<HTMLElement>(".card")?.dataset["id"] ?? state.selected;
  const actions: Record<string, () => void> = {
    "/": () => { box.focus(); box.select(); },
    "?": () => byId<HTMLDialogElement>("keys").showModal(),
    h: () => question(state) && toggleHeat(),
    b: startDrawing,
    m: () => focused && moreLike(focused),
    ...(onMap ? {} : { ArrowDown: () => step(1), ArrowUp: () => step(-1), j: () => step(1), k: () => step(-1) }),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function listenForm(): void {
  byId("form").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  box.addEventListener("input", grow);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
  });
  byId("filters").addEventListener("change", () => { readFilters(state); change({ text: box.value.trim() }); });
  byId("clear-filters").addEventListener("click", resetFilters);
  byId("draw").addEventListener("click", () => (cancelDrawing ? stopDrawing() : startDrawing()));
  byId("view").addEventListener("click", () => map && setBox(map.view()));
}

function listenPictures(): void {
  const file = byId<HTMLInputElement>("file");
  byId("picture").addEventListener("click", () => file.click());
  file.addEventListener("change", () => { if (file.files?.[0]) void addPicture(file.files[0]); file.value = ""; });
  const veil = byId("drop");
  const holds = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => { if (holds(event)) veil.hidden = false; });
  addEventListener("dragover", (event) => { if (holds(event)) event.preventDefault(); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) veil.hidden = true; });
  addEventListener("drop", (event) => {
    veil.hidden = true;
    const dropped = event.dataTransfer?.files[0];
    if (!dropped) return;
    event.preventDefault();
    void addPicture(dropped);
  });
  addEventListener("paste", (event) => {
    const pasted = event.clipboardData?.files[0];
    if (pasted) { event.preventDefault(); void addPicture(pasted); }
  });
}

function listenPage(): void {
  addEventListener("keydown", onKey);
  addEventListener("popstate", () => {
    state = fromAddress(new URLSearchParams(location.search));
    fillForm();
    void search();
  });
  byId("heat").addEventListener("click", toggleHeat);
  byId("imagery").addEventListener("click", () => {
    const on = byId("imagery").getAttribute("aria-pressed") !== "true";
    byId("imagery").setAttribute("aria-pressed", String(on));
    map?.setImagery(on);
  });
  byId("basemap").addEventListener("click", () => showBasemap(byId("basemap").getAttribute("aria-pressed") !== "true"));
  byId("more").addEventListener("click", async () => {
    if (!answer || !looking) return;
    const seen = items.length;
    await fetchPage(looking.signal, api.nextToken(answer));
    show();
    if (items.length > seen) cardOf(items[seen]!.id)?.focus();
  });
  byId("share").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      byId("status").textContent = say("copied");
    } catch {
      prompt(say("share"), location.href);  // no clipboard without https, or it was refused
    }
  });
  byId("help").addEventListener("click", () => byId<HTMLDialogElement>("keys").showModal());
}

function listenLook(): void {
  const select = byId<HTMLSelectElement>("language");
  select.replaceChildren(...Object.entries(LANGUAGES).map(([code, name]) => make("option", { value: code, lang: code }, name)));
  select.value = language();
  select.addEventListener("change", async () => {
    localStorage.setItem("geoglot-language", select.value);
    await speak(select.value);
    nameTheme();
    show();
    showTerms();
  });
  byId("theme").addEventListener("click", () => { applyTheme(nextTheme()); nameTheme(); map?.paint(); });
  followSystem(() => map?.paint());
  nameTheme();
}

function nameTheme(): void {
  const name = say({ auto: "themeAuto", light: "themeLight", dark: "themeDark" }[theme()] as Word);
  byId("theme").title = name;
  byId("theme").setAttribute("aria-label", `${say("theme")}: ${name}`);
}

/** The key goes into a cookie that only this server is sent; see docs/reference/rest.md. */
function askForKey(): void {
  byId<HTMLDialogElement>("door").showModal();
}

function listenDoor(): void {
  byId("door-form").addEventListener("submit", () => {
    const key = encodeURIComponent(byId<HTMLInputElement>("door-key").value);
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `geoglot_key=${key}; Path=${new URL(api.ROOT).pathname}; SameSite=Strict${secure}`;
    location.reload();
  });
}

// From nothing to a page

function makeMap(): MapView | null {
  try {
    return new MapView(byId("map"), byId("frame"), {
      onHit: select,
      onBox: setBox,
    });
  } catch (error) {
    byId("map").replaceChildren(make("p.note", {}, say("noMap")));
    console.warn(error);
    return null;
  }
}

async function begin(): Promise<void> {
  applyTheme(theme());
  await speak(preferred(new URLSearchParams(location.search)));
  listenForm();
  listenPictures();
  listenPage();
  listenLook();
  listenDoor();
  map = makeMap();
  fillForm();
  try {
    let given: Awaited<ReturnType<typeof api.settings>>;
    [collections, given] = await Promise.all([api.collections(), api.settings()]);
    basemap = given.basemap;
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
    problem = error;
    show();
    if (error.status === 401) askForKey();
    return;
  }
  offerArchives(collections, () => undefined);
  fillForm();
  map?.home(collections);
  void drawArchives();
  await search();
}

function showBasemap(on: boolean): void {
  byId("basemap").hidden = !basemap;
  byId("basemap").setAttribute("aria-pressed", String(on));
  byId("credit").hidden = !basemap || !on;
  byId("credit").textContent = basemap?.credit ?? "";
  map?.setBasemap(on ? basemap : null);
}

async function drawArchives(): Promise<void> {
  const all = await Promise.all(collections.map(({ id }) => api.scenes(id)));
  await map?.ready;
  showBasemap(true);
  map?.setScenes(all.flat());
  map?.setBox(state.bbox);
  map?.setHits(items, state.selected);
  showHeat();
}

void begin();
