/** How sure an answer is, in a sentence. */

import { enumerate, grouped, percent } from "./dom.js";

/**
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {{threshold: number, target_risk: number}} Abstention
 * @typedef {{alpha: number}} Conformal
 * @typedef {{decision: {abstention: Abstention | null, conformal: Conformal | null}, calibration: {method: string}}}
 *   Judged the parts of a manifest that are asked here
 */

const SURE = 0.95;
const LIKELY = 0.8;
const PROBABLE = 0.5;

/**
 * @param {Answer} answer
 * @param {Judged | null} manifest null where it could not be had
 * @returns {{sentence: string, reason: string, known: boolean}} `known` is false where the model does not rely on it
 */
export function verdict(answer, manifest) {
  const abstention = manifest?.decision.abstention ?? null;
  const alpha = manifest?.decision.conformal?.alpha;
  if (answer.reliable === false) {
    return { sentence: `I don't know this: ${belowThreshold(abstention)}`, reason: guess(answer, alpha), known: false };
  }
  const set = answer.prediction_set;
  if (set && set.length > 1) {
    return { sentence: `Probably one of: ${enumerate(set)}`, reason: rate(alpha, set.length), known: true };
  }
  if (set && set.length === 0 && answer.reliable === null) {
    return { sentence: "Nothing that I know fits well", reason: guess(answer, alpha), known: false };
  }
  const { label, confidence } = answer.predictions[0];
  if (answer.reliable === null && confidence < PROBABLE) {
    const perhaps = answer.predictions.slice(0, 3).map((prediction) => prediction.label);
    return { sentence: `Not sure. Perhaps ${enumerate(perhaps)}`, reason: unmeasured(manifest), known: false };
  }
  const sentence = `${degree(confidence)} ${label}`;
  return { sentence, reason: answer.reliable ? trusted(abstention) : unmeasured(manifest), known: true };
}

/** @param {number} confidence */
function degree(confidence) {
  return confidence >= SURE ? "Almost certainly" : confidence >= LIKELY ? "Very likely" : "Probably";
}

/** @param {Abstention | null} abstention */
function belowThreshold(abstention) {
  return abstention ? `below the threshold for ${percent(abstention.target_risk)} errors` : "below the model's threshold";
}

/** @param {Abstention | null} abstention */
function trusted(abstention) {
  if (!abstention) return "Above the threshold from which the model's answers count.";
  return `Of answers this confident, at most ${percent(abstention.target_risk)} are wrong.`;
}

/** @param {Answer} answer @param {number | undefined} alpha */
function guess({ predictions: [first], prediction_set: set }, alpha) {
  const best = `The best guess is ${first.label}, at ${percent(first.confidence)}.`;
  return set && set.length > 1 ? `${best} ${enumerate(set)}: ${rate(alpha, set.length)}` : best;
}

/** @param {number | undefined} alpha @param {number} size */
function rate(alpha, size) {
  const share = alpha === undefined ? "most" : percent(1 - alpha);
  return `The true one is among such ${size === 2 ? "two" : grouped(size)} for ${share} of pictures.`;
}

/** @param {Judged | null} manifest */
function unmeasured(manifest) {
  if (!manifest) return "";
  return manifest.calibration.method === "none"
    ? "By the model's own confidence: this version was never measured, so nothing says how often it is right."
    : "By its calibrated confidence: this version has no threshold for errors.";
}
