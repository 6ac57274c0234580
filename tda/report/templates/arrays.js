"use strict";
// Packed arrays, which are decoded when they are first needed.
const LISTED = 10;

const Packed = (() => {
  const decoded = new Map();

  function bytes(name) {
    if (!decoded.has(name)) {
      const element = document.getElementById(`block-${name}`);
      decoded.set(name, element === null ? null : fromBase64(element.textContent));
    }
    return decoded.get(name);
  }

  function fromBase64(text) {
    const binary = atob(text), found = new Uint8Array(binary.length);
    for (let place = 0; place < binary.length; place++) found[place] = binary.charCodeAt(place);
    return found.buffer;
  }

  // The list of an example (its place among the listed ones): up to 10 most helpful, and as many most harmful.
  function list(direction, method, checkpoints, place) {
    const buffer = bytes(`${direction}-${method}-${checkpoints}`);
    const count = Values[direction].listed.length * 2 * LISTED, seeds = Values.seed_ids.length;
    const floats = new Float32Array(buffer, 0, 3 * count), positions = new Int32Array(buffer, 12 * count, count);
    const steps = new Int8Array(buffer, 16 * count);
    const furthest = (seeds - 1) / Math.sqrt(seeds) / 127;
    const found = { helpful: [], harmful: [] };
    for (let rank = 0; rank < 2 * LISTED; rank++) {
      const entry = place * 2 * LISTED + rank;
      if (positions[entry] < 0) continue;
      const mean = floats[entry], std = floats[count + entry];
      const own = Array.from(steps.subarray(entry * seeds, (entry + 1) * seeds), (step) => mean + step * furthest * std);
      const row = { position: positions[entry], mean, std, q: floats[2 * count + entry], seeds: own };
      found[rank < LISTED ? "helpful" : "harmful"].push(row);
    }
    return found;
  }

  // Mean and q of a pair, by places among the listed examples; null where the page does not hold it.
  function pair(method, testPlace, trainPlace) {
    const buffer = bytes(`pairs-${method}`);
    if (buffer === null || testPlace < 0 || testPlace >= Values.complete || trainPlace < 0) return null;
    const trains = Values.train.listed.length, count = Values.complete * trains, place = testPlace * trains + trainPlace;
    const half = new Uint16Array(buffer, 2 * place, 1)[0], code = new Uint16Array(buffer, 2 * (count + place), 1)[0];
    return { mean: fromHalf(half) * Values.scales[method], q: 10 ** (-16 * code / 65535), least: code === 65535 };
  }

  // Means and q of an example with all others, by its place among the listed ones; null where the page does not hold them all.
  function all(direction, method, place) {
    const { test, train } = Values, others = direction === "test" ? train : test;
    const whole = others.listed.length === others.index.length && (direction === "test" ? place < Values.complete : Values.complete === test.index.length);
    if (!whole) return null;
    return others.listed.map((position, other) => ({ position, ...(direction === "test" ? pair(method, place, other) : pair(method, other, place)) }));
  }

  function fromHalf(half) {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  function map(entry) {
    return new Int8Array(bytes("maps"), entry.start, entry.height * entry.width);
  }

  return { list, pair, all, map };
})();
