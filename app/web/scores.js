/** Classes as bars: the most likely few, or all of them, sorted and searchable. */

import { byId, el, grouped, percent } from "./dom.js";

/** @typedef {import("./api.js").Prediction} Prediction */

/** @param {Prediction} prediction @param {{threshold?: number, inSet?: boolean}} [marks] @returns {HTMLLIElement} */
export function bar({ label, confidence }, { threshold, inSet } = {}) {
  const fill = el("i");
  fill.style.width = `${confidence * 100}%`;
  const track = el("span", { className: "track", "aria-hidden": "true" }, fill);
  if (threshold !== undefined) {
    const mark = el("b");
    mark.style.left = `${threshold * 100}%`;
    track.append(mark);
  }
  const name = el("span", { className: "name" }, label, inSet && el("span", { className: "tag" }, "in the set"));
  return el("li", {}, name, el("span", { className: "figure" }, percent(confidence)), track);
}

/**
 * @param {HTMLElement} list
 * @param {Prediction[]} predictions
 * @param {{threshold?: number, set?: string[] | null}} [marks] `threshold` is for the first
 */
export function showBars(list, predictions, { threshold, set } = {}) {
  const inSet = new Set(set && set.length > 1 ? set : []);
  list.replaceChildren(
    ...predictions.map((prediction, place) =>
      bar(prediction, { threshold: place === 0 ? threshold : undefined, inSet: inSet.has(prediction.label) }),
    ),
  );
}

/** @type {{prediction: Prediction, row: HTMLElement}[]} */
let rows = [];

/** @param {Prediction[]} predictions of all classes, best first */
export function showAll(predictions) {
  rows = predictions.map((prediction) => ({ prediction, row: bar(prediction) }));
  byId("all-scores").replaceChildren(...rows.map(({ row }) => row));
  search();
}

/** Wire the field that searches them. */
export function startScores() {
  byId("class-search").addEventListener("input", search);
}

function search() {
  const wanted = byId("class-search").value.trim().toLocaleLowerCase();
  let found = 0;
  rows.forEach(({ prediction, row }, place) => {
    row.hidden = !prediction.label.toLocaleLowerCase().includes(wanted);
    /** @type {HTMLLIElement} */ (row).value = place + 1; // its rank among all, whatever is hidden
    if (!row.hidden) found += 1;
  });
  const all = grouped(rows.length);
  byId("found").textContent = wanted ? `${grouped(found)} of ${all} classes` : `${all} classes, most likely first`;
}
