/** The page: pictures come in, each is asked about, one is shown with all that is known of it. */

import { ServiceError } from "./api.js";
import { classify, pictureOf, TOP_K } from "./ask.js";
import { offerComparison } from "./compare.js";
import { startDetails } from "./details.js";
import { announce, byId, el, grouped } from "./dom.js";
import { addCard, clearCards, markCurrent, updateCard } from "./gallery.js";
import { startIntake } from "./intake.js";
import { startKeys } from "./key.js";
import { liveVersions, nameOf, showCards } from "./models.js";
import { draw, showAnswer, startResult } from "./result.js";
import { startScores } from "./scores.js";
import { indexes, showNeighbours, similar } from "./similar.js";
import { startWhy } from "./why.js";

/**
 * @typedef {import("./ask.js").Picture} Picture
 * @typedef {import("./models.js").Live} Live
 * @typedef {import("./similar.js").Index} Index
 */

const LOADING_MS = 2000;

/** @type {Picture[]} in the order they came */
let pictures = [];
/** @type {Picture | null} */
let selected = null;
/** @type {Live[]} */
let versions = [];
/** @type {Index[]} */
let known = [];
/** @type {Promise<void>} */
let loading = Promise.resolve();

startKeys();
startIntake(take, trouble);
startScores();
startResult();
startDetails();
startWhy();
byId("model").addEventListener("change", () => (preferIndex(), pictures.forEach(ask)));
byId("index").addEventListener("change", showSimilar);
byId("retry").addEventListener("click", load);
byId("ask-again").addEventListener("click", () => load().then(() => selected && ask(selected)));
byId("clear").addEventListener("click", clear);
load();

/** Which versions and indexes there are; asked again where the service does not answer. */
function load() {
  loading = (async () => {
    try {
      versions = await liveVersions();
      offerVersions();
      if (versions.length === 0) {
        trouble("No model answers yet. They may still be loading.");
        setTimeout(() => versions.length === 0 && load(), LOADING_MS);
        return;
      }
      trouble("");
      known = await indexes();
      offerIndexes();
      await showCards(versions);
    } catch (error) {
      trouble(/** @type {Error} */ (error).message);
      if (!(error instanceof ServiceError)) throw error;
    }
  })();
  return loading;
}

/** @returns {Live} the version that is asked */
function current() {
  return versions[byId("model").selectedIndex] ?? versions[0];
}

function offerVersions() {
  const select = byId("model");
  const before = select.value;
  select.replaceChildren(
    ...versions.map((live) => {
      const text = `${nameOf(live)}: ${live.serving.description}`;
      return el("option", { value: nameOf(live), selected: nameOf(live) === before }, text);
    }),
  );
  select.disabled = versions.length === 0;
}

function offerIndexes() {
  const texts = known.map(({ name, size }) => `${name}: ${grouped(size)} pictures`);
  byId("index").replaceChildren(...texts.map((text) => el("option", {}, text)));
  byId("index-label").hidden = known.length < 2;
  preferIndex();
}

/** Search the index of the version that is asked, where it has one. */
function preferIndex() {
  const own = known.findIndex(({ model, version }) => nameOf({ model, version }) === byId("model").value);
  if (own >= 0) byId("index").selectedIndex = own;
}

/** @param {File[]} files */
async function take(files) {
  document.body.classList.add("has-pictures");
  const added = files.map(pictureOf);
  pictures.push(...added);
  for (const picture of added) addCard(picture, choose);
  scrollTo(0, 0);
  select(added[0]);
  await loading;
  if (versions.length === 0) await load();
  added.forEach(ask);
}

/** @param {Picture} picture */
async function ask(picture) {
  if (versions.length === 0) {
    Object.assign(picture, { state: "failed", message: byId("trouble-text").textContent || "No model answers yet." });
    changed(picture);
    return;
  }
  const version = current();
  await classify(picture, version, Math.min(TOP_K, version.serving.classes), () => changed(picture));
}

/** @param {Picture} picture */
function changed(picture) {
  updateCard(picture);
  if (picture === selected) show(picture);
  const failed = pictures.filter(({ state }) => state === "failed").length;
  const done = pictures.filter(({ state }) => state === "done").length;
  const all = pictures.length;
  const progress = `${done} of ${all} pictures answered`;
  byId("gallery-title").textContent = progress;
  if (all > 1 && done + failed === all) announce(progress);
}

/** @param {Picture} picture of the gallery, below which its answer may be out of sight */
async function choose(picture) {
  await select(picture);
  byId("verdict").scrollIntoView({ block: "nearest" });
}

/** @param {Picture} picture @returns {Promise<void>} once it is drawn */
function select(picture) {
  selected = picture;
  markCurrent(picture);
  byId("compare").hidden = byId("similar").hidden = true;
  const drawn = draw(picture);
  show(picture);
  return drawn;
}

/** @param {Picture} picture */
async function show(picture) {
  const live = current();
  const sentence = await showAnswer(picture, live);
  if (picture !== selected || !sentence) return;
  if (picture.state === "failed" || picture.state === "done") announce(`${picture.name}: ${sentence}`);
  if (picture.state !== "done") return;
  offerComparison(picture, live, versions);
  showSimilar();
}

/** The nearest pictures of the selected one, where there is an index. */
async function showSimilar() {
  const picture = selected;
  const index = known[byId("index").selectedIndex];
  byId("similar").hidden = !index;
  if (!picture?.sent || !index) return;
  byId("similar-text").textContent = "Looking…";
  byId("neighbours").replaceChildren();
  const wanted = () => picture === selected && index === known[byId("index").selectedIndex];
  try {
    const answer = await similar(picture.sent, index);
    if (!wanted()) return;
    byId("similar-text").textContent = `The nearest of ${grouped(index.size)} pictures, as ${nameOf(index)} sees them.`;
    await showNeighbours(answer);
  } catch (error) {
    if (wanted()) byId("similar-text").textContent = /** @type {Error} */ (error).message;
  }
}

function clear() {
  for (const picture of pictures) picture.asking.abort();
  pictures = [];
  selected = null;
  clearCards();
  for (const id of ["result", "compare", "similar"]) byId(id).hidden = true;
}

/** @param {string} message an empty one takes it away */
function trouble(message) {
  if (byId("trouble-text").textContent !== message) byId("trouble-text").textContent = message; // not announced twice
  byId("trouble").hidden = message === "";
}
