/** The selected picture, with everything that is known of it. */

import { allClasses } from "./ask.js";
import { byId, el, grouped, percent } from "./dom.js";
import { showDetails } from "./details.js";
import { manifestOf } from "./models.js";
import { copyTo, upright } from "./picture.js";
import { showAll, showBars } from "./scores.js";
import { verdict } from "./verdict.js";
import { hideWhy, offerWhy } from "./why.js";

/** @typedef {import("./ask.js").Picture} Picture @typedef {import("./models.js").Live} Live */

const PICTURE_PIXELS = 1600;

/** @type {Picture | null} */
let drawn = null;
let unreadable = false;
/** @type {(() => void) | null} */
let showAllClasses = null;

/** Wire the switch for all classes. */
export function startResult() {
  byId("all-classes").addEventListener("change", () => showAllClasses?.());
}

/** @type {Promise<void>} when it is */
let drawing = Promise.resolve();

/** @param {Picture} picture @returns {Promise<void>} once it is drawn */
export function draw(picture) {
  return (drawing = drawNow(picture));
}

/** @param {Picture} picture */
async function drawNow(picture) {
  drawn = picture;
  unreadable = false;
  hideWhy();
  const canvas = byId("picture");
  canvas.setAttribute("aria-label", picture.name);
  byId("stage").classList.add("stale");
  caption(picture);
  const source = await upright(picture.file, PICTURE_PIXELS).catch(() => null);
  if (drawn !== picture) return;
  if (source) copyTo(canvas, source);
  else Object.assign(canvas, { width: 640, height: 320 }); // blank
  unreadable = source === null;
  byId("stage").classList.remove("stale");
  caption(picture);
}

/**
 * The answer to a picture that is drawn, or how far it is.
 * @param {Picture} picture
 * @param {Live} live
 * @returns {Promise<string>} the sentence
 */
export async function showAnswer(picture, live) {
  const { answer, state } = picture;
  byId("result").hidden = false;
  byId("result").dataset.state = state;
  byId("ask-again").hidden = state !== "failed" || picture.refused;
  for (const id of ["scores", "details", "all-switch"]) byId(id).hidden = !answer;
  byId("threshold").textContent = "";
  byId("all").hidden = true;
  caption(picture);
  if (!answer) {
    hideWhy();
    const [sentence, ...more] = picture.message.split(/(?<=\.) /); // what is wrong, then what to do
    if (state === "failed") say(sentence, more.join(" "));
    else say("Looking…", picture.message);
    return byId("verdict").textContent;
  }
  const manifest = await manifestOf(live).catch(() => null);
  if (drawn !== picture || picture.answer !== answer) return "";
  const { sentence, reason, known } = verdict(answer, manifest);
  byId("result").classList.toggle("unknown", !known);
  say(sentence, reason);
  const abstention = manifest?.decision.abstention;
  showBars(byId("scores"), answer.predictions, { threshold: abstention?.threshold, set: answer.prediction_set });
  if (abstention) {
    byId("threshold").textContent = `The mark, at ${percent(abstention.threshold)}, is where answers begin to count.`;
  }
  showDetails(answer, picture.sent?.name || picture.name, answer.predictions.length);
  offerAll(picture, live);
  offerWhy(picture, drawing);
  return sentence;
}

/** @param {Picture} picture @param {Live} live */
function offerAll(picture, live) {
  byId("all-classes-name").textContent = `All ${grouped(live.serving.classes)} classes`;
  showAllClasses = async () => {
    const wanted = byId("all-classes").checked;
    byId("all").hidden = !wanted;
    if (!wanted) return;
    byId("found").textContent = "Looking…";
    byId("all-scores").replaceChildren();
    try {
      const answer = await allClasses(picture, live, live.serving.classes);
      if (drawn === picture) showAll(answer.predictions);
    } catch (error) {
      byId("found").textContent = /** @type {Error} */ (error).message;
    }
  };
  showAllClasses();
}

/** @param {Picture} picture */
function caption({ name, note, answer }) {
  const unseen = unreadable && answer ? "The service reads this format, but your browser can't draw it." : ""; // TIFF
  const notes = [note, unseen].filter(Boolean).map((text) => ` · ${text}`);
  byId("caption").replaceChildren(el("bdi", {}, name), ...notes); // a name from right to left turns nothing but itself
}

/** @param {string} sentence @param {string} reason */
function say(sentence, reason) {
  byId("verdict").textContent = sentence;
  byId("reason").textContent = reason;
}
