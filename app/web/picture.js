/** Picture files: what they are, what of them is sent, and how they are drawn. */

import { grouped } from "./dom.js";
import { turnOf } from "./orientation.js";

const READ_HERE = ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF"]; // as the service reads them
const SHRUNK_PIXELS = 2048;
const QUALITY = 0.92;

/** A file that can't be sent; the message is for people. */
export class PictureError extends Error {}

/** @param {File} file @returns {Promise<string>} the format by the file's first bytes, or an empty string */
export async function formatOf(file) {
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (text.startsWith("\xff\xd8\xff")) return "JPEG";
  if (text.startsWith("\x89PNG")) return "PNG";
  if (text.startsWith("GIF8")) return "GIF";
  if (text.startsWith("BM")) return "BMP";
  if (/^(II[*+]\0|MM\0[*+])/.test(text)) return "TIFF";
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") return "WebP";
  if (text.slice(4, 8) !== "ftyp") return "";
  return /avi[fs]/.test(text.slice(8)) ? "AVIF" : /hei|hev|mif1|msf1/.test(text.slice(8)) ? "HEIC" : "";
}

/**
 * What is sent for a file: itself, so that the page asks what any other caller would. Only a format that the service
 * does not read is converted, where the browser can read it.
 * @param {File} file
 * @returns {Promise<{file: File, note: string}>}
 */
export async function toSend(file) {
  if (file.size === 0) throw new PictureError("The file is empty.");
  const format = await formatOf(file);
  if (READ_HERE.includes(format)) return { file, note: "" };
  try {
    const converted = await reencode(file, Infinity);
    return { file: converted, note: `Converted to JPEG by your browser: the service reads no ${format || "such files"}.` };
  } catch {
    throw new PictureError(refusal(format));
  }
}

/**
 * A smaller JPEG of the same picture, for what is over the service's limits.
 * @param {File} file
 * @returns {Promise<{file: File, note: string}>}
 */
export async function shrink(file) {
  try {
    const smaller = await reencode(file, SHRUNK_PIXELS);
    const note = `Shrunk by your browser to ${grouped(SHRUNK_PIXELS)} pixels: the original is over the service's limit.`;
    return { file: smaller, note };
  } catch {
    throw new PictureError("The picture is over the service's limit, and your browser can't shrink it.");
  }
}

/**
 * The picture upright, as the service sees it: EXIF orientation applied, transparency over white.
 * @param {Blob} blob
 * @param {number} longest most pixels of its longer side
 * @returns {Promise<HTMLCanvasElement>} rejected where the browser can't read it
 */
export async function upright(blob, longest) {
  const [bitmap, [a, b, c, d]] = await Promise.all([createImageBitmap(blob), turnOf(blob)]);
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const size = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = a === 0 ? size.toReversed() : size;
  const context = contextOf(canvas);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.setTransform(a, b, c, d, a + c < 0 ? canvas.width : 0, b + d < 0 ? canvas.height : 0);
  context.drawImage(bitmap, 0, 0, size[0], size[1]);
  bitmap.close();
  return canvas;
}

/**
 * Show one canvas's pixels in another, which takes over its size.
 * @param {HTMLCanvasElement} target
 * @param {HTMLCanvasElement} source
 */
export function copyTo(target, source) {
  target.width = source.width;
  target.height = source.height;
  contextOf(target).drawImage(source, 0, 0);
}

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
export function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** @param {File} file @param {number} longest */
async function reencode(file, longest) {
  const canvas = await upright(file, longest);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  if (!blob) throw new PictureError("The picture is too large for your browser.");
  return new File([blob], file.name.replace(/\.\w+$/, "") + ".jpg", { type: "image/jpeg" });
}

/** @param {string} format */
function refusal(format) {
  if (format === "HEIC") {
    return (
      "This is a HEIC photo, which neither the service nor this browser reads. Share it from the phone as JPEG: on an " +
      "iPhone, choose Settings, Camera, Formats, Most Compatible, or open this page in Safari."
    );
  }
  return `This is no picture that the service reads. It takes ${READ_HERE.slice(0, -1).join(", ")} and ${READ_HERE.at(-1)}.`;
}
