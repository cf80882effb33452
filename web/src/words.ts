/** The page's own words in ten languages; one JSON file each, fetched when it is wanted. */

import english from "./languages/en.json";

export const LANGUAGES: Record<string, string> = {
  en: "English", es: "Español", fr: "Français", de: "Deutsch", pt: "Português",
  it: "Italiano", nl: "Nederlands", ru: "Русский", zh: "中文", ko: "한국어",
};

export type Word = keyof typeof english;
const files = import.meta.glob<{ default: Record<Word, string> }>(["./languages/*.json", "!./languages/en.json"]);
let words: Record<Word, string> = english;
let code = "en";

export function language(): string {
  return code;
}

/** The language asked for by the address, by an earlier visit, or by the browser. */
export function preferred(address: URLSearchParams): string {
  const wishes = [address.get("lang"), localStorage.getItem("geoglot-language"), ...navigator.languages];
  return wishes.map((wish) => (wish ?? "").slice(0, 2)).find((wish) => wish in LANGUAGES) ?? "en";
}

export async function speak(wanted: string): Promise<void> {
  const file = files[`./languages/${wanted}.json`];
  words = file ? (await file()).default : english;
  code = wanted;
  document.documentElement.lang = wanted;
  translate(document);
}

/** A sentence, with {names} filled in. */
export function say(word: Word, values: Record<string, string | number> = {}): string {
  return words[word].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** Fill every element that names its words: data-say for text, data-say-label, -title, -placeholder for attributes. */
function translate(root: ParentNode): void {
  root.querySelectorAll<HTMLElement>("[data-say]").forEach((element) => {
    element.textContent = say(element.dataset.say as Word);
  });
  for (const [key, attribute] of [["sayLabel", "aria-label"], ["sayTitle", "title"], ["sayPlaceholder", "placeholder"]] as const) {
    const name = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    root.querySelectorAll<HTMLElement>(`[data-${name}]`).forEach((element) => {
      element.setAttribute(attribute, say(element.dataset[key] as Word));
    });
  }
}

export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(code, { maximumFractionDigits: digits }).format(value);
}

export function percent(share: number): string {
  return new Intl.NumberFormat(code, { style: "percent" }).format(share);
}

export function day(stamp: string): string {
  return new Intl.DateTimeFormat(code, { dateStyle: "medium", timeZone: "UTC" }).format(new Date(stamp));
}

/** Metres per pixel or on the ground, in metres or kilometres. */
export function metres(value: number): string {
  return value >= 1000 ? `${number(value / 1000, 1)} km` : `${number(value, value < 10 ? 2 : 0)} m`;
}
