/** Several pictures at once: a card for each, in the order they came, each with its own state. */

import { limiter } from "./ask.js";
import { byId, el, percent } from "./dom.js";
import { copyTo, upright } from "./picture.js";

/** @typedef {import("./ask.js").Picture} Picture */

const THUMBNAIL_PIXELS = 360;
const drawnInTurn = limiter(2); // a large photo takes 160 MB while it is decoded

/** @type {Map<Picture, {button: HTMLButtonElement, text: HTMLElement}>} */
const cards = new Map();
/** @type {(() => void)[]} */
const undrawn = []; // a single picture needs no card, and is not decoded for one

/** @param {Picture} picture @param {(picture: Picture) => void} choose */
export function addCard(picture, choose) {
  const canvas = el("canvas", { className: "blank", width: 3, height: 2, "aria-hidden": "true" });
  const text = el("span", { className: "hint" });
  const name = el("bdi", { className: "name", title: picture.name }, picture.name);
  const button = el("button", { type: "button", onclick: () => choose(picture) }, canvas, name, text);
  cards.set(picture, { button, text });
  byId("pictures").append(el("li", {}, button));
  byId("gallery").hidden = cards.size < 2;
  undrawn.push(async () => {
    const drawn = await drawnInTurn(() => upright(picture.file, THUMBNAIL_PIXELS)).catch(() => null);
    if (!drawn) return; // the card stays blank
    copyTo(canvas, drawn);
    canvas.className = "";
  });
  if (cards.size > 1) for (const draw of undrawn.splice(0)) draw();
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
  byId("pictures").replaceChildren();
  cards.clear();
  undrawn.length = 0;
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
