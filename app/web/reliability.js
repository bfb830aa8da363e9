/** The reliability diagram: how often answers of each confidence were right. */

import { grouped, percent, svg } from "./dom.js";

/** @typedef {{confidence: number, accuracy: number, n: number}} Bin */

const SIDE = 200;
const EDGE = 28; // for the scales
const BINS = 15; // of equal width

/** @param {Bin[]} bins none of them empty @param {string} name of the model, for the title @returns {SVGElement} */
export function reliabilityDiagram(bins, name) {
  const whole = SIDE + EDGE;
  const total = bins.reduce((sum, bin) => sum + bin.n, 0);
  const most = Math.max(...bins.map((bin) => bin.n));
  const diagram = svg("svg", { viewBox: `0 0 ${whole} ${whole}`, role: "img", class: "reliability" });
  diagram.append(svg("title", {}, `Reliability of ${name}: ${inWords(bins, total)}`));
  for (const share of [0, 0.5, 1]) {
    const [x, y] = [EDGE + share * SIDE, SIDE - share * SIDE];
    diagram.append(
      svg("line", { x1: EDGE, x2: whole, y1: y, y2: y, class: "grid" }),
      svg("text", { x: EDGE - 4, y: y + (share === 1 ? 9 : 3), "text-anchor": "end" }, String(share * 100)),
      svg("text", { x, y: SIDE + 13, "text-anchor": share === 1 ? "end" : share ? "middle" : "start" }, String(share * 100)),
    );
  }
  for (const { confidence, accuracy, n } of bins) {
    const width = SIDE / BINS;
    const left = EDGE + Math.min(BINS - 1, Math.floor(confidence * BINS)) * width;
    const bar = svg("rect", {
      x: left + 0.75,
      width: width - 1.5,
      y: SIDE - accuracy * SIDE,
      height: accuracy * SIDE,
      class: "bin",
      "fill-opacity": (0.35 + 0.65 * Math.sqrt(n / most)).toFixed(2),
    });
    bar.append(svg("title", {}, `${n} answers at ${percent(confidence)}: ${percent(accuracy)} right`));
    diagram.append(bar);
  }
  diagram.append(
    svg("line", { x1: EDGE, y1: SIDE, x2: whole, y2: 0, class: "ideal" }),
    svg("text", { x: EDGE + SIDE / 2, y: whole - 3, "text-anchor": "middle" }, "confidence, %"),
    svg("text", { transform: `translate(8 ${SIDE / 2}) rotate(-90)`, "text-anchor": "middle" }, "right, %"),
  );
  return diagram;
}

/** @param {Bin[]} bins @param {number} total */
function inWords(bins, total) {
  const { confidence, accuracy } = bins.reduce((largest, bin) => (bin.n > largest.n ? bin : largest));
  return `of ${grouped(total)} answers, those at about ${percent(confidence)} were right ${percent(accuracy)} of the time`;
}
