"use strict";
// Numbers and names as a reader sees them, and elements that never take text for markup.
const Format = (() => {
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

  // Three significant digits, as "%.3g" writes them, with a true minus sign.
  function number(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size < 1e-4 || size >= 1e5 ? value.toExponential(2).replace(/\.?0*e/, "e").replace("e+", "e") : String(Number(value.toPrecision(3)));
    return text.replace(/-/g, "−");
  }

  const q = (value, least = false) => (least ? "< 1e−16" : number(value));
  const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);
  const correlation = (value) => (value === null || value === undefined ? "–" : value.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−"));
  const seconds = (value) => (value === null || value === undefined ? "–" : value >= 10 ? value.toFixed(0) : value.toFixed(1));
  const whole = (value) => value.toLocaleString("en");
  const by = { number, percent, correlation, seconds };

  // A name of a file or a class: what would be invisible, or turn the writing around, is written out.
  function name(text) {
    return String(text).replace(HIDDEN, (letter) => `⟨U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  }

  function classOf(label) {
    return label === null || label === undefined ? "" : name(Values.class_names[label] ?? `class ${label}`);
  }

  return { number, q, percent, correlation, seconds, whole, by, name, classOf };
})();

// An element with attributes and children; strings become text, never markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (key === "style") Object.assign(element.style, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function drawing(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const isolated = (text) => make("bdi", { dir: "auto" }, text);
const at = (id) => document.getElementById(id);
