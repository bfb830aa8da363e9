/** EXIF orientation of WebP files, which the service heeds and some browsers do not. */

// By orientation, from 1 on: the first four numbers of a canvas's transform
const TURNS = [
  [1, 0, 0, 1],
  [-1, 0, 0, 1],
  [-1, 0, 0, -1],
  [1, 0, 0, -1],
  [0, 1, 1, 0],
  [0, 1, -1, 0],
  [0, -1, -1, 0],
  [0, -1, 1, 0],
];

// Two pixels side by side, which orientation 6 puts one above the other
const PROBE = "UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=";
const ORIENTATION = 0x112;

/** @type {Promise<boolean> | undefined} whether this browser turns them itself */
let heeded;

/** @param {Blob} blob @returns {Promise<number[]>} how its decoded pixels are to be turned */
export async function turnOf(blob) {
  const view = new DataView(await blob.slice(0, 16).arrayBuffer());
  if (view.byteLength < 16 || view.getUint32(8) !== fourCC("WEBP")) return TURNS[0];
  heeded ??= createImageBitmap(new Blob([Uint8Array.from(atob(PROBE), (character) => character.charCodeAt(0))])).then(
    ({ height }) => height === 2,
    () => true,
  );
  if (await heeded) return TURNS[0];
  try {
    return TURNS[orientation(new DataView(await blob.arrayBuffer())) - 1] ?? TURNS[0];
  } catch {
    return TURNS[0]; // broken EXIF data must not cost the picture
  }
}

/** @param {DataView} view a whole file: chunks, of which one may hold a TIFF header and its tags */
function orientation(view) {
  let at = 12;
  while (view.getUint32(at) !== fourCC("EXIF")) at += 8 + 2 * Math.ceil(view.getUint32(at + 4, true) / 2);
  at += view.getUint32(at + 8) === fourCC("Exif") ? 14 : 8;
  const little = view.getUint16(at) === 0x4949;
  const tags = at + view.getUint32(at + 4, little);
  for (let entry = tags + 2; entry < tags + 2 + 12 * view.getUint16(tags, little); entry += 12) {
    if (view.getUint16(entry, little) === ORIENTATION) return view.getUint16(entry + 8, little);
  }
  return 1;
}

/** @param {string} name */
function fourCC(name) {
  return [...name].reduce((sum, character) => sum * 256 + character.charCodeAt(0), 0);
}
