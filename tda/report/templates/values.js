"use strict";
// The plain values that the page holds.
const Values = JSON.parse(document.getElementById("values").textContent);
