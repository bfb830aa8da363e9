/** The live versions: which there are, and a card for each from its manifest. */

import { get } from "./api.js";
import { byId, el, grouped, percent } from "./dom.js";
import { reliabilityDiagram } from "./reliability.js";

/**
 * @typedef {import("./api.js").Version} Version
 * @typedef {{name: string, value: number, low: number, high: number, n: number, dataset: string}} Metric
 * @typedef {{version: number, engine: string, device: string, precision: string, description: string, classes: number}} Serving
 * @typedef {any} Manifest as `models/manifest.py` has it
 * @typedef {{model: string, version: number, serving: Serving, isDefault: boolean, names: string[]}} Live
 */

/** @type {Map<string, Promise<Manifest>>} */
const manifests = new Map();

/**
 * Every live version, the one that answers by default first.
 * @returns {Promise<Live[]>}
 */
export async function liveVersions() {
  const { default_model: first, models } = await get("models");
  const found = models.flatMap((/** @type {any} */ model) =>
    model.versions.map((/** @type {Serving} */ serving) => ({
      model: model.name,
      version: serving.version,
      serving,
      isDefault: model.name === first && serving.version === model.default_version,
      names: Object.keys(model.labels).filter((label) => model.labels[label] === serving.version),
    })),
  );
  return found.sort((/** @type {Live} */ a, /** @type {Live} */ b) => Number(b.isDefault) - Number(a.isDefault));
}

/** @param {Version} version @returns {Promise<Manifest>} of a version that is asked for once */
export function manifestOf({ model, version }) {
  const place = `${model}/${version}`;
  let found = manifests.get(place);
  if (!found) {
    found = get(`models/${encodeURIComponent(model)}/versions/${version}`).then((answer) => answer.manifest);
    found.catch(() => manifests.delete(place));
    manifests.set(place, found);
  }
  return found;
}

/** @param {Version} version @returns {string} as the page names it */
export function nameOf({ model, version }) {
  return `${model} ${version}`;
}

/** @param {Live[]} versions */
export async function showCards(versions) {
  const cards = await Promise.all(
    versions.map(async (live) => {
      try {
        return card(live, await manifestOf(live));
      } catch (error) {
        const { message } = /** @type {Error} */ (error);
        return el("article", { className: "card" }, el("h3", {}, nameOf(live)), el("p", {}, message));
      }
    }),
  );
  byId("cards").replaceChildren(...cards);
}

/** @param {Live} live @param {Manifest} manifest */
function card(live, manifest) {
  const marks = [...(live.isDefault ? ["default"] : []), ...live.names].map((mark) => el("span", { className: "tag" }, mark));
  const rows = facts(live.serving, manifest).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  return el(
    "article",
    { className: "card" },
    el("h3", {}, live.model, " ", el("small", {}, `version ${live.version}`), marks),
    el("p", {}, `${manifest.description}.`),
    el("div", { className: "known" }, el("dl", {}, rows), diagram(manifest)),
    classes(manifest),
  );
}

/** @param {Serving} serving @param {Manifest} manifest @returns {[string, string | Node][]} */
function facts(serving, manifest) {
  const { abstention, conformal } = manifest.decision;
  const { height, width } = manifest.input;
  const found = manifest.metrics.find((/** @type {Metric} */ metric) => metric.name === "accuracy");
  return [
    ["Accuracy", found ? accuracy(found) : "not measured"],
    ...(found ? [["Measured on", found.dataset]] : []),
    ["Calibration", calibration(manifest.calibration)],
    ["Counts from", abstention ? threshold(abstention) : "no threshold recorded"],
    ["Prediction set", conformal ? `holds the true class ${percent(1 - conformal.alpha)} of the time` : "none recorded"],
    ["Knows", `${grouped(manifest.labels.length)} classes`],
    ["Network", `${manifest.architecture.name}, ${millions(manifest.architecture.parameters)} parameters`],
    ["Sees", `${width} × ${height} pixels`],
    ["Runs on", `${serving.engine}, ${serving.device}, ${serving.precision}`],
    ["Made", date(manifest.created_at)],
  ];
}

/** @param {import("./verdict.js").Abstention} abstention */
function threshold({ threshold, target_risk: risk }) {
  return `${percent(threshold)} confidence: then at most ${percent(risk)} errors`;
}

/** @param {Metric} metric */
function accuracy({ value, low, high, n }) {
  const interval = ` (${percent(low)} to ${percent(high)}) of ${grouped(n)} pictures`;
  return el("span", {}, el("strong", {}, percent(value)), interval);
}

/** @param {{method: string, temperature: number, before: Metric[], after: Metric[]}} fitted */
function calibration({ method, temperature, before, after }) {
  if (method === "none") return "none";
  const [was, is] = [before, after].map((metrics) => metrics.find((metric) => metric.name === "ece_equal_width")?.value);
  const by = `temperature ${temperature.toFixed(2)}`;
  if (was === undefined || is === undefined) return by;
  return `${percent(is)} off on average (ECE), ${percent(was)} before; ${by}`;
}

/** @param {Manifest} manifest */
function diagram(manifest) {
  const bins = manifest.calibration.reliability ?? [];
  if (bins.length === 0) return el("p", { className: "hint" }, "No reliability diagram recorded.");
  const text = "On the line, confidence is how often it is right. The stronger a bar, the more answers.";
  return el("figure", {}, reliabilityDiagram(bins, manifest.name), el("figcaption", {}, text));
}

/** @param {Manifest} manifest */
function classes(manifest) {
  const names = manifest.labels.map((/** @type {{name: string}} */ label) => label.name).join(", ");
  const text = el("p", { className: "classes", tabIndex: 0, role: "group", "aria-label": `Classes of ${manifest.name}` });
  const more = el("details", {}, el("summary", {}, "What it knows"), text);
  more.addEventListener("toggle", () => (text.textContent = names), { once: true });
  return more;
}

/** @param {number} count */
function millions(count) {
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} million` : grouped(count);
}

/** @param {string} iso */
function date(iso) {
  const shown = new Date(iso).toLocaleDateString("en-GB", { dateStyle: "long", timeZone: "UTC" });
  return el("time", { dateTime: iso }, shown);
}
