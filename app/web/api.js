/** The calls of the service, and what goes wrong with them, in words. */

import { askForKey, currentKey } from "./key.js";

const TIMEOUT_MS = 60_000;
const MOST_TRIES = 8;

/**
 * @typedef {{label: string, class_id: number, confidence: number}} Prediction
 * @typedef {{model: string, version: number, request_id: string, predictions: Prediction[], reliable: boolean | null,
 *   prediction_set: string[] | null, timing_ms: Record<string, number>, round_trip_ms?: number}} Answer
 * @typedef {{left: number, top: number, right: number, bottom: number}} Region fractions of width and height
 * @typedef {{model: string, version: number, class_id: number, label: string, confidence: number, method: string,
 *   heatmap: number[][], region: Region, timing_ms: Record<string, number>}} Explanation
 * @typedef {{id: number, label: string | null, distance: number, thumbnail: string | null}} Neighbour
 * @typedef {{index: string, neighbours: Neighbour[], timing_ms: Record<string, number>}} Similar
 * @typedef {{model: string, version: number}} Version
 * @typedef {Record<string, string | number | undefined | null>} Query
 */

/** An answer that is an error, or none at all. `message` is for people. */
export class ServiceError extends Error {
  /**
   * @param {number} status 0 where nothing answered
   * @param {string} code as in `app/errors.py`, or `unreachable`
   * @param {string} message
   * @param {number} [retryAfterS]
   */
  constructor(status, code, message, retryAfterS) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

/** @param {string} path relative to the page, so that it works below a proxy's path @param {Query} [query] */
export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) url.searchParams.set(name, String(value));
  }
  return url;
}

/**
 * GET as JSON.
 * @param {string} path
 */
export async function get(path) {
  return (await request(address(path), {})).json();
}

/**
 * POST a picture. A full queue is waited for as long as it says.
 * @param {string} path
 * @param {Query} query
 * @param {File} file
 * @param {{signal?: AbortSignal, onWait?: (seconds: number) => void}} [options]
 */
export async function post(path, query, file, { signal, onWait } = {}) {
  for (let tries = 1; ; tries++) {
    const body = new FormData();
    body.append("file", file, file.name);
    try {
      const started = performance.now();
      const response = await request(address(path, query), { method: "POST", body, signal });
      const answer = await response.json();
      answer.round_trip_ms = performance.now() - started;
      return answer;
    } catch (error) {
      if (!(error instanceof ServiceError) || error.status !== 429 || tries >= MOST_TRIES) throw error;
      const seconds = Math.max(1, error.retryAfterS ?? 1);
      onWait?.(seconds);
      await pause(seconds * 1000 * (1 + Math.random() / 4), signal); // not all waiting ones at once
    }
  }
}

/** @param {URL} url @param {RequestInit} options @returns {Promise<Response>} of a status below 400 */
async function request(url, options) {
  for (;;) {
    const key = currentKey();
    const response = await reach(url, { ...options, headers: key ? { "X-API-Key": key } : {} });
    if (response.ok) return response;
    const error = await errorOf(response);
    if (error.status !== 401) throw error;
    if (!(await askForKey(key, error.message))) {
      throw new ServiceError(401, error.code, "This service answers only with an API key.");
    }
  }
}

/** @param {URL} url @param {RequestInit} options */
async function reach(url, options) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  try {
    return await fetch(url, { ...options, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServiceError(0, "unreachable", "The service does not answer.");
  }
}

/** @param {Response} response */
async function errorOf(response) {
  try {
    const { code, message, retry_after_s: seconds } = (await response.json()).error;
    return new ServiceError(response.status, code, inWords(code, message), seconds);
  } catch {
    // What stands in front of the service has words of its own, and often no JSON
    const busy = response.status === 502 || response.status === 503 || response.status === 504;
    const said = busy ? "The service does not answer." : `The service answered ${response.status}.`;
    return new ServiceError(response.status, busy ? "unreachable" : "unknown", said);
  }
}

/** @param {string} code @param {string} message the service's own */
function inWords(code, message) {
  const known = /** @type {Record<string, string>} */ ({
    draining: "The service is being stopped. Another one will answer soon.",
    not_ready: "The models are still loading.",
    queue_full: "The service is busy.",
    deadline_passed: "The service was too busy to answer in time.",
    unimplemented: "This model version was exported without it. Export it again to have it.",
  })[code];
  return known ?? sentence(message);
}

/** @param {string} message */
function sentence(message) {
  const startsWithName = /^\w+:/.test(message); // of a parameter
  const text = startsWithName ? message : message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** @param {number} ms @param {AbortSignal} [signal] */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
