/** The heat map of a class over the picture: `POST /explain`. */

import { post } from "./api.js";
import { contextOf } from "./picture.js";

/** @typedef {import("./api.js").Explanation} Explanation */

const SIDE = 256; // pixels of the smoothed map, which is stretched over the region
const FULL_AT = 0.85; // evidence from which the colour covers the picture
// Anchors of "inferno" (Smith and van der Walt, 2015): even steps look even, and in grey as well
const RAMP = [
  [20, 11, 53],
  [87, 16, 110],
  [136, 34, 106],
  [188, 55, 84],
  [227, 89, 51],
  [249, 140, 10],
  [249, 201, 50],
  [252, 255, 164],
];

/**
 * @param {File} file
 * @param {{model: string, version: number}} version
 * @param {number} classId
 * @returns {Promise<Explanation>}
 */
export function explain(file, version, classId) {
  return post("explain", { model: version.model, version: version.version, class_id: classId }, file);
}

/**
 * Draw it on a canvas that lies over the picture's and has its size: no colour where there is no evidence, and a shade
 * over what the model did not see.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLCanvasElement} picture
 * @param {Explanation} explanation
 */
export function drawHeat(canvas, picture, { heatmap, region }) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = contextOf(canvas);
  const [left, top] = [region.left * canvas.width, region.top * canvas.height];
  const [width, height] = [region.right * canvas.width - left, region.bottom * canvas.height - top];
  context.fillStyle = "#0008";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.clearRect(left, top, width, height);
  if (heatmap.length === 0) return;
  context.imageSmoothingQuality = "high";
  context.drawImage(coloured(heatmap), left, top, width, height);
}

/** @param {number[][]} heatmap */
function coloured(heatmap) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = contextOf(canvas);
  const pixels = context.createImageData(SIDE, SIDE);
  for (let y = 0, at = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++, at += 4) {
      const value = valueAt(heatmap, (x + 0.5) / SIDE, (y + 0.5) / SIDE);
      pixels.data.set(colour(value), at);
      pixels.data[at + 3] = 255 * Math.min(1, value / FULL_AT);
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * Between the cells' centres, by the cubic of Catmull and Rom: it goes through each cell's own value.
 * @param {number[][]} rows
 * @param {number} x fraction of the width
 * @param {number} y fraction of the height
 */
function valueAt(rows, x, y) {
  const column = x * rows[0].length - 0.5;
  const row = y * rows.length - 0.5;
  const [left, above] = [Math.floor(column), Math.floor(row)];
  const along = [-1, 0, 1, 2].map((step) => {
    const cells = rows[clamp(above + step, rows.length)];
    return cubic([-1, 0, 1, 2].map((aside) => cells[clamp(left + aside, cells.length)]), column - left);
  });
  return Math.min(1, Math.max(0, cubic(along, row - above)));
}

/** @param {number[]} values four in a row @param {number} t from the second to the third */
function cubic([a, b, c, d], t) {
  return b + (t / 2) * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

/** @param {number} value 0 to 1 */
function colour(value) {
  const place = value * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[low].map((from, channel) => Math.round(from + (RAMP[low + 1][channel] - from) * (place - low)));
}

/** @param {number} index @param {number} length */
function clamp(index, length) {
  return Math.min(length - 1, Math.max(0, index));
}
