/** The same picture through several versions, side by side. */

import { allClasses } from "./ask.js";
import { byId, el, percent } from "./dom.js";
import { manifestOf, nameOf } from "./models.js";
import { showBars } from "./scores.js";
import { verdict } from "./verdict.js";

/**
 * @typedef {import("./ask.js").Picture} Picture
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {import("./models.js").Live} Live
 */

const SHOWN = 3;

/** @type {Set<string>} names of the versions that are compared with */
const chosen = new Set();
let latest = 0;

/**
 * Offer the other versions, and show those that were chosen before.
 * @param {Picture} picture
 * @param {Live} current
 * @param {Live[]} versions
 */
export function offerComparison(picture, current, versions) {
  const others = versions.filter((live) => live !== current);
  byId("compare").hidden = others.length === 0;
  const boxes = others.map((live) => {
    const name = nameOf(live);
    const box = el("input", { type: "checkbox", checked: chosen.has(name) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(name);
      else chosen.delete(name);
      show();
    });
    return el("label", { className: "chip" }, box, name);
  });
  const fieldset = byId("compare-versions");
  fieldset.replaceChildren(fieldset.firstElementChild, ...boxes);
  const show = () => showColumns(picture, [current, ...others.filter((live) => chosen.has(nameOf(live)))]);
  show();
}

/** @param {Picture} picture @param {Live[]} versions the first is the one that the others are measured by */
async function showColumns(picture, versions) {
  const turn = ++latest;
  const columns = byId("columns");
  byId("agreement").textContent = versions.length > 1 ? "Looking…" : "";
  columns.replaceChildren();
  if (versions.length < 2) return;
  const found = await Promise.all(
    versions.map(async (live) => {
      try {
        const asked = [allClasses(picture, live, live.serving.classes), manifestOf(live)];
        const [answer, manifest] = await Promise.all(asked);
        return { live, answer, manifest, message: "" };
      } catch (error) {
        return { live, answer: null, manifest: null, message: /** @type {Error} */ (error).message };
      }
    }),
  );
  if (turn !== latest) return;
  const reference = found[0].answer;
  byId("agreement").textContent = agreement(found);
  columns.replaceChildren(...found.map((one, place) => column(one, place === 0 ? null : reference)));
}

/**
 * @param {{live: Live, answer: Answer | null, manifest: any, message: string}} found
 * @param {Answer | null} reference null for the first column
 */
function column({ live, answer, manifest, message }, reference) {
  const head = el("h3", {}, nameOf(live));
  if (!answer) return el("article", {}, head, el("p", { className: "hint" }, message));
  const bars = el("ol", { "aria-label": `Most likely classes of ${nameOf(live)}` });
  showBars(bars, answer.predictions.slice(0, SHOWN), { set: answer.prediction_set });
  const difference = reference && differs(answer, reference);
  const mark = difference && el("p", { className: difference.same ? "mark same" : "mark" }, difference.text);
  return el("article", {}, head, el("p", { className: "sentence" }, verdict(answer, manifest).sentence), bars, mark);
}

/** @param {Answer} answer of all classes @param {Answer} reference */
function differs(answer, reference) {
  const [mine, theirs] = [answer.predictions[0], reference.predictions[0]];
  if (plain(mine.label) === plain(theirs.label)) {
    const points = (mine.confidence - theirs.confidence) * 100;
    if (Math.abs(points) < 0.05) return { same: true, text: "Agrees, as sure" };
    return { same: true, text: `Agrees, ${Math.abs(points).toFixed(1)} points ${points > 0 ? "surer" : "less sure"}` };
  }
  const found = answer.predictions.find((prediction) => plain(prediction.label) === plain(theirs.label));
  const about = found ? `gives ${theirs.label} ${percent(found.confidence)}` : `has no class ${theirs.label}`;
  return { same: false, text: `Differs: ${about}` };
}

/** @param {{answer: Answer | null}[]} found */
function agreement(found) {
  const labels = found.flatMap(({ answer }) => answer?.predictions[0].label ?? []);
  if (labels.length < 2) return "";
  const times = labels.map((label) => labels.filter((other) => plain(other) === plain(label)).length);
  const most = Math.max(...times);
  const what = labels[times.indexOf(most)];
  if (most < 2) return "Each says something else.";
  return most === found.length ? `They agree: ${what}.` : `${most} of ${found.length} agree: ${what}.`;
}

/** @param {string} label data sets write the same word in several ways */
function plain(label) {
  return label.toLowerCase().replaceAll(/[_\s-]+/g, " ");
}
