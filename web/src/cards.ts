/** The places found, as cards, best first; and the selected one at large. */

import { type Item, fullPicture, thumbnail } from "./api";
import { button, make } from "./dom";
import type { Sign } from "./state";
import { day, metres, number, percent, say } from "./words";

export function card(item: Item, selected: boolean, onOpen: (byKey: boolean) => void): HTMLElement {
  const { title, datetime, gsd } = item.properties;
  const rank = item.properties["geoglot:rank"] ?? 0;
  const picture = make("img", { src: thumbnail(item, 320), alt: "", loading: "lazy", width: "320", height: "320", decoding: "async" });
  const facts = [datetime ? day(datetime) : say("noDate"), gsd ? metres(gsd) : null].filter(Boolean).join(" · ");
  const open = make("button.card", { type: "button", "data-id": item.id, "aria-pressed": String(selected) },
    make("span.picture", {}, picture, make("span.rank", { "aria-hidden": "true" }, number(rank))),
    make("span.title", {}, make("span.hidden", {}, say("place", { n: rank, title: "" })), title),
    confidence(item),
    make("span.facts", {}, facts),
  );
  open.addEventListener("click", (event) => onOpen(event.detail === 0));
  return make("li", {}, open);
}

/** A bar and a number; where the archive is not calibrated, the score, which only ranks. */
export function confidence(item: Item): HTMLElement {
  const share = item.properties["geoglot:confidence"];
  const score = item.properties["geoglot:score"] ?? 0;
  if (share === null || share === undefined) {
    return make("span.confidence.unknown", { title: say("notCalibrated") }, `${say("score")} ${number(score, 3)}`);
  }
  const bar = make("span.meter", { "aria-hidden": "true" }, make("i"));
  (bar.firstChild as HTMLElement).style.inlineSize = `${Math.round(share * 100)}%`;
  return make("span.confidence", { title: say("confidence") }, bar,
    make("span", {}, make("span.hidden", {}, `${say("confidence")} `), percent(share)));
}

export interface DetailEvents {
  onClose(): void;
  onZoom(): void;
  onLike(): void;
  onTerm(sign: Sign): void;
  onWhere: (() => void) | null;
}

export function fillDetail(panel: HTMLElement, item: Item, manyArchives: boolean, events: DetailEvents): void {
  const { title, datetime, gsd, platform } = item.properties;
  const ground = item.properties["geoglot:ground_m"];
  const score = item.properties["geoglot:score"];
  const facts: [string, string | null][] = [
    [say("taken"), datetime ? day(datetime) : say("noDate")],
    [say("pixel"), gsd ? metres(gsd) : null],
    [say("ground"), ground ? `${metres(ground)} × ${metres(ground)}` : null],
    [say("sensor"), platform ?? null],
    [say("score"), score === undefined ? null : number(score, 3)],
    [say("archive"), manyArchives ? item.collection : null],
  ];
  const close = button("×", events.onClose, "button.quiet.icon.close");
  close.setAttribute("aria-label", say("close"));
  panel.replaceChildren(
    close,
    make("img", { src: thumbnail(item, 640), alt: "", width: "640", height: "640" }),
    make("div.words", {},
      make("h2", {}, title),
      item.properties["geoglot:rank"] ? confidence(item) : null,
      item.geometry ? null : make("p.note", {}, say("noPlace")),
      make("dl", {}, ...facts.filter(([, value]) => value).map(([name, value]) =>
        make("div", {}, make("dt", {}, name), make("dd", {}, value!)))),
      make("div.row.wrap", {},
        button(say("moreLike"), events.onLike, "button.primary"),
        item.geometry ? button(say("zoomTo"), events.onZoom) : null,
        item.geometry && events.onWhere ? button(say("whereIn"), events.onWhere) : null,
        make("a.button", { href: fullPicture(item), target: "_blank", rel: "noopener" }, say("fullPicture"))),
      make("div.row.wrap", {},
        button(`+ ${say("addTo")}`, () => events.onTerm("+"), "button.quiet"),
        button(`− ${say("takeFrom")}`, () => events.onTerm("-"), "button.quiet")),
    ),
  );
}
