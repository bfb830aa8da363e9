/** The selected picture's heat maps: which class, how opaque, and what to say where there is none. */

import { ServiceError } from "./api.js";
import { byId, el } from "./dom.js";
import { drawHeat, explain } from "./heatmap.js";

/** @typedef {import("./ask.js").Picture} Picture @typedef {import("./api.js").Explanation} Explanation */

/** @type {{picture: Picture, classId: number, drawn: Promise<void>} | null} */
let shown = null;

/** Wire the switch and the slider. */
export function startWhy() {
  byId("heat-opacity").addEventListener("input", fade);
  byId("heat-on").addEventListener("change", () => {
    fade();
    if (shown) show(shown.picture, shown.classId, shown.drawn);
  });
  fade();
}

/**
 * Offer a heat map of each top class, and show the first one's.
 * @param {Picture} picture that has an answer
 * @param {Promise<void>} drawn when its pixels are on the page
 */
export function offerWhy(picture, drawn) {
  const predictions = picture.answer?.predictions ?? [];
  byId("why").hidden = predictions.length === 0;
  byId("why-controls").hidden = true;
  byId("why-text").textContent = "";
  clear();
  shown = null;
  if (predictions.length === 0) return;
  const chips = predictions.map(({ label, class_id: classId }, place) => {
    const radio = el("input", { type: "radio", name: "heat-class", value: String(classId), checked: place === 0 });
    radio.addEventListener("change", () => show(picture, classId, drawn));
    return el("label", { className: "chip" }, radio, label);
  });
  const fieldset = byId("heat-classes");
  fieldset.replaceChildren(fieldset.firstElementChild, ...chips);
  show(picture, predictions[0].class_id, drawn);
}

/** Show none, for there is no answer. */
export function hideWhy() {
  shown = null;
  clear();
  byId("why").hidden = true;
}

/** @param {Picture} picture @param {number} classId @param {Promise<void>} drawn */
async function show(picture, classId, drawn) {
  const wanted = (shown = { picture, classId, drawn });
  const { answer, sent } = picture;
  if (!byId("heat-on").checked || !answer || !sent) return;
  const text = byId("why-text");
  const place = `${answer.model}/${answer.version}/${classId}`;
  let explanation = picture.explanations.get(place);
  if (!explanation) {
    text.textContent = "Looking for what it went by…";
    try {
      explanation = await explain(sent, answer, classId);
      picture.explanations.set(place, explanation);
    } catch (error) {
      if (shown !== wanted) return;
      clear();
      text.textContent = refusal(/** @type {Error} */ (error));
      return;
    }
  }
  await drawn;
  if (shown !== wanted) return;
  drawHeat(byId("heat"), byId("picture"), explanation);
  byId("heat").hidden = false;
  byId("why-controls").hidden = false;
  text.textContent = inWords(explanation);
}

/** @param {Explanation} explanation */
function inWords({ label, heatmap, region }) {
  const some = heatmap.some((row) => row.some((value) => value > 0));
  const seen = region.left > 0 || region.top > 0 || region.right < 1 || region.bottom < 1;
  const what = some ? `The glow marks what speaks for ${label}.` : `Nothing in the picture speaks for ${label}.`;
  return seen ? `${what} The model does not see the dark edge.` : what;
}

/** @param {Error} error */
function refusal(error) {
  if (!(error instanceof ServiceError)) return error.message;
  if (error.status === 501) return "This version was exported before there were heat maps. Export it again.";
  if (error.status === 404 && error.code === "not_found") return "This service makes no heat maps.";
  return error.message;
}

function fade() {
  const on = byId("heat-on").checked;
  byId("heat").style.opacity = on ? String(byId("heat-opacity").value / 100) : "0";
  byId("why-controls").classList.toggle("off", !on);
}

function clear() {
  byId("heat").hidden = true;
}
