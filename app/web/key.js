/** The API key: asked for when the service wants one, kept for this tab alone. */

import { byId } from "./dom.js";

const PLACE = "demitasse-key";

/** @type {Promise<boolean> | null} */
let asking = null;

/** @returns {string | null} */
export function currentKey() {
  return sessionStorage.getItem(PLACE);
}

/**
 * Ask for a key, once for all calls that wait for it.
 * @param {string | null} used the key that was refused, if any
 * @param {string} reason what the service said
 * @returns {Promise<boolean>} whether there is another one now
 */
export function askForKey(used, reason) {
  if (currentKey() !== used) return Promise.resolve(currentKey() !== null);
  asking ??= ask(used === null ? "This service answers only with an API key." : reason).finally(() => (asking = null));
  return asking;
}

/** @param {string} reason */
function ask(reason) {
  const dialog = byId("key-dialog");
  const field = byId("key-field");
  byId("key-reason").textContent = reason;
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const key = field.value.trim();
        field.value = "";
        const given = dialog.returnValue === "use" && key !== "";
        if (given) sessionStorage.setItem(PLACE, key);
        show();
        resolve(given);
      },
      { once: true },
    );
  });
}

/** Wire the dialog and the button that forgets the key. */
export function startKeys() {
  byId("key-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
    event.preventDefault(); // the policy of the page lets no form be sent
    byId("key-dialog").close("use");
  });
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close(""));
  byId("forget-key").addEventListener("click", () => {
    sessionStorage.removeItem(PLACE);
    show();
  });
  show();
}

function show() {
  byId("forget-key").hidden = currentKey() === null;
}
