/** How pictures come in: chosen, photographed, dropped, pasted, or a sample. */

import { byId } from "./dom.js";

/** @param {(files: File[]) => void} take @param {(message: string) => void} refuse */
export function startIntake(take, refuse) {
  for (const input of [byId("choose"), byId("take")]) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = ""; // the same file can be chosen again
      if (files.length > 0) take(files);
    });
  }
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.addEventListener("click", () => {
      sample(/** @type {HTMLElement} */ (button)).then(take, (error) => refuse(error.message));
    });
  }
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0) take(files);
  });
  startDrop(take, refuse);
}

/** @param {(files: File[]) => void} take @param {(message: string) => void} refuse */
function startDrop(take, refuse) {
  let depth = 0; // each element that is entered or left counts
  const show = () => document.body.classList.toggle("dropping", depth > 0);
  addEventListener("dragenter", () => (depth++, show()));
  addEventListener("dragleave", () => (depth = Math.max(0, depth - 1), show()));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show();
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 0) take(files);
    else refuse("Only files can be dropped here. Copy the picture and paste it, or save it first.");
  });
}

/** @param {HTMLElement} button */
async function sample(button) {
  const name = /** @type {string} */ (button.dataset.sample);
  const response = await fetch(`web/samples/${name}`).catch(() => null);
  if (!response?.ok) throw new Error("The service does not answer.");
  return [new File([await response.blob()], name, { type: "image/webp" })];
}
