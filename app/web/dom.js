/** Elements and numbers. Labels and file names are strangers' words: they become text, never markup. */

const SVG = "http://www.w3.org/2000/svg";
const NBSP = "\u00a0";

/** @typedef {string | number | Node | null | undefined | false} Child */

/**
 * An HTML element. `on…` properties become listeners, names with a dash or `role` attributes, others properties.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Child | Child[])} children
 * @returns {any} the element; `any` so that callers need no cast for its kind
 */
export function el(tag, properties = {}, ...children) {
  const element = /** @type {any} */ (document.createElement(tag));
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "role" || name === "for" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child != null && child !== false).map(asNode));
  return element;
}

/**
 * An SVG element with these attributes.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(string | Node)} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** @param {string} id @returns {any} the element of the page that has this id */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * @param {number} fraction 0 to 1
 * @param {number} [digits]
 * @returns {string} such as `95.2 %`; never a plain 0 or 100 where it is not exactly that
 */
export function percent(fraction, digits = 1) {
  const value = fraction * 100;
  const least = 10 ** -digits;
  if (value > 0 && value < least) return `<${NBSP}${least.toFixed(digits)}${NBSP}%`;
  if (value < 100 && value > 100 - least) return `>${NBSP}${(100 - least).toFixed(digits)}${NBSP}%`;
  const exact = Math.abs(value - Math.round(value)) < 1e-9; // a rate that somebody set
  return `${value.toFixed(exact ? 0 : digits)}${NBSP}%`;
}

/** @param {number} count @returns {string} such as `1,000` */
export function grouped(count) {
  return count.toLocaleString("en");
}

/**
 * @param {string[]} words
 * @param {number} most how many are named; the others are counted
 */
export function enumerate(words, most = 4) {
  const named = words.length > most + 1 ? words.slice(0, most) : words.slice(0, -1);
  const last = words.length > most + 1 ? `${grouped(words.length - most)} more` : words.at(-1);
  return named.length ? `${named.join(", ")} or ${last}` : (last ?? "");
}

let announced = 0;

/**
 * Has screen readers say it, after what they are saying.
 * @param {string} text
 */
export function announce(text) {
  const region = byId("status");
  announced += 1;
  region.textContent = announced % 2 ? text : `${text}${NBSP}`; // the same words twice are two pieces of news
}

/**
 * A button that copies a text and says so.
 * @param {() => string} text
 * @param {string} name for screen readers
 */
export function copyButton(text, name) {
  const button = el("button", { type: "button", className: "quiet", "aria-label": name }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it"; // without HTTPS, browsers have no clipboard
    }
    announce(button.textContent);
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

/** @param {Exclude<Child, null | undefined | false>} child */
function asNode(child) {
  return child instanceof Node ? child : String(child);
}
