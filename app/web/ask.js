/** One picture's way through the service: few requests at a time, a full queue waited for, what is too large shrunk. */

import { post, ServiceError } from "./api.js";
import { PictureError, shrink, toSend } from "./picture.js";

/**
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {import("./api.js").Explanation} Explanation
 * @typedef {import("./api.js").Version} Version
 * @typedef {"waiting" | "asking" | "busy" | "done" | "failed"} State
 *
 * @typedef {object} Picture
 * @property {string} name
 * @property {File} file as it was given
 * @property {File | null} sent what the service gets, once that is known
 * @property {string} note what was done to it before
 * @property {State} state
 * @property {string} message of a failure, or of a wait
 * @property {boolean} refused failed, as it would again
 * @property {Answer | null} answer
 * @property {Map<string, Answer>} others all classes, by version
 * @property {Map<string, Explanation>} explanations by version and class
 * @property {AbortController} asking
 */

export const TOP_K = 5;
const AT_A_TIME = 3;
const SLOW_MS = 5000;

/**
 * @param {number} most
 * @returns {<T>(task: () => Promise<T>) => Promise<T>} which runs no more than so many tasks at a time, in order
 */
export function limiter(most) {
  let free = most;
  /** @type {(() => void)[]} */
  const waiting = [];
  return async (task) => {
    if (free > 0) free -= 1;
    else await new Promise((/** @type {(value?: unknown) => void} */ resolve) => waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    }
  };
}

const inTurn = limiter(AT_A_TIME);

/** @param {File} file @returns {Picture} */
export function pictureOf(file) {
  return {
    name: file.name || "picture",
    file,
    sent: null,
    note: "",
    state: "waiting",
    message: "",
    refused: false,
    answer: null,
    others: new Map(),
    explanations: new Map(),
    asking: new AbortController(),
  };
}

/**
 * Ask for the top classes; what comes of it is in the picture's `state`, `answer` and `message`.
 * @param {Picture} picture
 * @param {Version} version
 * @param {number} topK
 * @param {() => void} changed called whenever its state has changed
 */
export async function classify(picture, version, topK, changed) {
  picture.asking.abort(); // of another version
  const asking = (picture.asking = new AbortController());
  /** @param {State} state @param {string} [message] */
  const turn = (state, message = "") => {
    if (asking.signal.aborted) return;
    Object.assign(picture, { state, message });
    changed();
  };
  picture.answer = null;
  turn("waiting");
  try {
    await inTurn(async () => {
      asking.signal.throwIfAborted();
      turn("asking");
      const slow = setTimeout(() => picture.state === "asking" && turn("asking", "This takes longer than usual."), SLOW_MS);
      const onWait = (/** @type {number} */ seconds) => turn("busy", `The service is busy. Next try in ${seconds} s.`);
      const asked = send(picture, version, topK, { signal: asking.signal, onWait });
      const answer = await asked.finally(() => clearTimeout(slow));
      if (!asking.signal.aborted) picture.answer = answer;
    });
    turn("done");
  } catch (error) {
    if (asking.signal.aborted) return;
    const { message, status } = /** @type {ServiceError} */ (error);
    picture.refused = error instanceof PictureError || [400, 413, 415].includes(status);
    turn("failed", message);
    if (!(error instanceof ServiceError || error instanceof PictureError)) throw error;
  }
}

/**
 * All classes of one version, best first, asked for once.
 * @param {Picture} picture
 * @param {Version} version
 * @param {number} classes
 * @returns {Promise<Answer>}
 */
export async function allClasses(picture, version, classes) {
  const place = `${version.model}/${version.version}`;
  const known = picture.others.get(place);
  if (known) return known;
  const answer = await send(picture, version, classes, {});
  picture.others.set(place, answer);
  return answer;
}

/**
 * @param {Picture} picture
 * @param {Version} version
 * @param {number} topK
 * @param {{signal?: AbortSignal, onWait?: (seconds: number) => void}} options
 * @returns {Promise<Answer>}
 */
async function send(picture, { model, version }, topK, options) {
  if (!picture.sent) use(picture, await toSend(picture.file));
  const query = { model, version, top_k: topK };
  try {
    return await post("predict", query, /** @type {File} */ (picture.sent), options);
  } catch (error) {
    if (!(error instanceof ServiceError) || error.status !== 413 || picture.sent !== picture.file) throw error;
    use(picture, await shrink(picture.file));
    return post("predict", query, /** @type {File} */ (picture.sent), options);
  }
}

/** @param {Picture} picture @param {{file: File, note: string}} prepared */
function use(picture, { file, note }) {
  picture.sent = file;
  picture.note = note;
}
