/** How an answer came about: time by stage, request id, and the command that asks the same. */

import { address } from "./api.js";
import { byId, copyButton, el, grouped } from "./dom.js";
import { currentKey } from "./key.js";

/** @typedef {import("./api.js").Answer} Answer */

const STAGES = ["decode", "queue", "inference", "search"];
const PLAIN_NAME = /^[\w][\w.-]*$/;

/** Put the two copy buttons into their places. */
export function startDetails() {
  byId("copy-id").replaceWith(copyButton(() => byId("request-id").textContent, "Copy the request id"));
  byId("copy-curl").replaceWith(copyButton(() => byId("curl").textContent, "Copy the command"));
}

/** @param {Answer} answer @param {string} fileName @param {number} topK */
export function showDetails(answer, fileName, topK) {
  byId("request-id").textContent = answer.request_id;
  byId("curl").textContent = command(answer, fileName, topK);
  const { timing_ms: timing } = answer;
  const stages = STAGES.filter((stage) => stage in timing).map((stage) => ({ stage, ms: timing[stage] }));
  const inside = stages.reduce((sum, { ms }) => sum + ms, 0);
  const whole = answer.round_trip_ms ?? inside;
  const segments = [...stages, { stage: "network", ms: Math.max(0, whole - inside) }];
  const strip = el("div", { className: "strip", "aria-hidden": "true" });
  const legend = el("dl", { className: "stages" });
  for (const { stage, ms } of segments) {
    const part = el("i", { className: stage });
    part.style.flexGrow = String(Math.max(ms, whole / 200));
    strip.append(part);
    legend.append(el("div", { className: stage }, el("dt", {}, stage), el("dd", {}, milliseconds(ms))));
  }
  byId("timing").replaceChildren(strip, legend);
}

/**
 * A curl command that gives the same answer to the file of that name.
 * @param {{model: string, version: number}} version
 * @param {string} fileName
 * @param {number} topK
 */
export function command({ model, version }, fileName, topK) {
  const url = address("predict", { model, version, top_k: topK });
  const key = currentKey() === null ? "" : '-H "X-API-Key: $DEMITASSE_KEY" ';
  return `curl ${key}-F ${quoted(`file=@${formName(fileName)}`)} ${quoted(url.href)}`;
}

/**
 * curl reads ; and , in a file's name as its own signs, unless the name is in quotes.
 * @param {string} name
 */
function formName(name) {
  return PLAIN_NAME.test(name) ? name : `"${name.replace(/[\\"]/g, "\\$&")}"`;
}

/**
 * For the shell.
 * @param {string} text
 */
function quoted(text) {
  return /^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {number} ms */
function milliseconds(ms) {
  return `${ms < 10 ? ms.toFixed(1) : grouped(Math.round(ms))}\u00a0ms`;
}
