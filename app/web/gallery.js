/** Several pictures at once: a card for each, in the order they came, each with its own state. */

import { limiter } from "./ask.js";
import { byId, el, percent } from "./dom.js";
import { copyTo, upright } from "./picture.js";

/** @typedef {import("./ask.js").Picture} Picture */

const THUMBNAIL_PIXELS = 360;
const drawnInTurn = limiter(2); // a large photo takes 160 MB while it is decoded

/** @type {Map<Picture, {button: HTMLButtonElement, text: HTMLElement, item: HTMLElement}>} */
const cards = new Map();

/** @param {Picture} picture @param {(picture: Picture) => void} choose */
export function addCard(picture, choose) {
  const canvas = el("canvas", { className: "blank", width: 3, height: 2, "aria-hidden": "true" });
  const text = el("span", { className: "hint" });
  const name = el("span", { className: "name", title: picture.name }, picture.name);
  const button = el("button", { type: "button", onclick: () => choose(picture) }, canvas, name, text);
  const item = el("li", {}, button);
  cards.set(picture, { button, text, item });
  byId("pictures").append(item);
  byId("gallery").hidden = cards.size < 2;
  drawnInTurn(() => upright(picture.file, THUMBNAIL_PIXELS)).then(
    (drawn) => (copyTo(canvas, drawn), (canvas.className = "")),
    () => {}, // the card stays blank
  );
  updateCard(picture);
}

/** @param {Picture} picture */
export function updateCard(picture) {
  const card = cards.get(picture);
  if (!card) return;
  card.button.dataset.state = picture.state;
  card.text.textContent = summary(picture);
}

/** @param {Picture} picture */
export function markCurrent(picture) {
  for (const [other, { button }] of cards) {
    if (other === picture) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

/** Take all of them away. */
export function clearCards() {
  for (const { item } of cards.values()) item.remove();
  cards.clear();
  byId("gallery").hidden = true;
}

/** @param {Picture} picture */
function summary({ state, message, answer }) {
  if (state === "waiting") return "Waiting";
  if (state === "asking") return "Looking…";
  if (state === "done" && answer) {
    const [first] = answer.predictions;
    return `${first.label}, ${percent(first.confidence)}${answer.reliable === false ? ", unsure" : ""}`;
  }
  return message;
}
