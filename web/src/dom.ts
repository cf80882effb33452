/** Elements, found and made. */

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
}

type Content = Node | string | null;

/** make("p.note", {title: "…"}, "text"): attributes are set as they stand, null ones left out. */
export function make(selector: string, attributes: Record<string, string | null> = {}, ...content: Content[]): HTMLElement {
  const [tag = "div", ...classes] = selector.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...content.filter((part) => part !== null));
  return element;
}

export function button(label: string, onClick: () => void, selector = "button"): HTMLElement {
  const element = make(selector, { type: "button" }, label);
  element.addEventListener("click", onClick);
  return element;
}
