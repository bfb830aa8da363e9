/** The nearest pictures of an index: `GET /indexes`, `POST /similar`. */

import { get, post, ServiceError } from "./api.js";
import { byId, el } from "./dom.js";
import { copyTo, upright } from "./picture.js";

/**
 * @typedef {import("./api.js").Similar} Similar
 * @typedef {import("./api.js").Neighbour} Neighbour
 * @typedef {{name: string, model: string, version: number, size: number}} Index
 */

const SHOWN = 8;
const THUMBNAIL_PIXELS = 256;

/** @returns {Promise<Index[]>} none where the service has no such route */
export async function indexes() {
  try {
    return (await get("indexes")).indexes;
  } catch (error) {
    if (error instanceof ServiceError && error.status === 404) return [];
    throw error;
  }
}

/** @param {File} file @param {Index} index @returns {Promise<Similar>} */
export function similar(file, { name, model, version }) {
  return post("similar", { index: name, model, version, k: SHOWN }, file);
}

/** @param {Similar} answer */
export async function showNeighbours({ neighbours }) {
  const cards = await Promise.all(neighbours.map(card));
  byId("neighbours").replaceChildren(...cards);
}

/** @param {Neighbour} neighbour */
async function card({ id, label, distance, thumbnail }) {
  const name = label ?? `picture ${id}`;
  const canvas = thumbnail && el("canvas", { "aria-hidden": "true" });
  if (thumbnail) copyTo(canvas, await upright(fromBase64(thumbnail), THUMBNAIL_PIXELS));
  const far = el("span", { className: "hint" }, `distance ${distance.toFixed(2)}`);
  return el("li", {}, canvas, el("span", { className: "name" }, name), far);
}

/** @param {string} text */
function fromBase64(text) {
  return new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))]);
}
