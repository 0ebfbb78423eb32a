"use strict";
// What all parts of the page draw with: colours of the style sheet, pictures of numbers, contours, sliders.

const drawings = []; // functions that draw anew when the window changes its size or the colours change

/** Draws now, and whenever the page looks different. */
function keepDrawn(draw) {
  drawings.push(draw);
  draw();
}

let colours = {};

/** A colour of the style sheet, by its name, as [red, green, blue]. */
function rgb(name) {
  if (!colours[name]) {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim().slice(1);
    colours[name] = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }
  return colours[name];
}

function css(name, alpha = 1) {
  return `rgba(${rgb(name).join(", ")}, ${alpha})`;
}

function drawAll() {
  [colours, shades] = [{}, null];
  drawings.forEach((draw) => draw());
}

addEventListener("resize", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

function blend(from, to, share) {
  return from.map((value, i) => value + (to[i] - value) * share);
}

const NUM_SHADES = 256; // on each side of 0: more would look the same, and each is mixed once only
let shades = null;

/** The colour of a number: -1 blue, 0 like the page, 1 orange. */
function diverging(value) {
  shades ??= Array.from({ length: 2 * NUM_SHADES + 1 }, (_, i) => {
    const t = i / NUM_SHADES - 1;
    return blend(rgb("panel"), rgb(t < 0 ? "low" : "high"), Math.abs(t) ** 0.8);
  });
  return shades[Math.round(NUM_SHADES * (1 + Math.min(Math.max(value, -1), 1)))];
}

const GREYS = Array.from({ length: 256 }, (_, i) => [i, i, i]);

/** The colour of ink, 0 black ... 1 white, as in MNIST. */
function inkColour(value) {
  return GREYS[Math.round(255 * value)];
}

/** The context of a canvas, cleared and sharp on every screen, and its size on the page. */
function begin(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  ctx.font = "13px system-ui, sans-serif";
  return { ctx, width, height };
}

const small = document.createElement("canvas"); // on which grids are made, a pixel for each number

/** A grid of numbers as a picture; `colourOf` makes a colour of each. `flip`: the first row is the lowest. */
function drawGrid(ctx, { height, width, values }, colourOf, [x, y, w, h], { smooth = false, flip = false } = {}) {
  [small.width, small.height] = [width, height];
  const pixels = new ImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / width);
    const at = 4 * ((flip ? height - 1 - row : row) * width + (i % width));
    [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2]] = colourOf(values[i]);
    pixels.data[at + 3] = 255;
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  ctx.imageSmoothingEnabled = smooth;
  ctx.drawImage(small, x, y, w, h);
}

/** One of the maps that a layer computes. */
function channel({ height, width, channels, values }, number) {
  return {
    height,
    width,
    values: Float32Array.from({ length: height * width }, (_, i) => values[i * channels + number]),
  };
}

/** The largest absolute value, or 1e-9 where all are 0. */
function spread(values) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
}

/** The pieces [x, y, x, y] of the line where a grid of numbers has a level, in columns and rows (marching squares). */
function levelLines({ height, width, values }, level) {
  const pieces = [];
  for (let y = 0; y + 1 < height; y++) {
    for (let x = 0; x + 1 < width; x++) {
      const corners = [
        [x, y],
        [x + 1, y],
        [x + 1, y + 1],
        [x, y + 1],
      ];
      const over = corners.map(([cx, cy]) => values[cy * width + cx] - level);
      const crossings = [];
      for (let i = 0; i < 4; i++) {
        const [a, b] = [over[i], over[(i + 1) % 4]];
        if (a >= 0 === b >= 0) continue;
        const [from, to] = [corners[i], corners[(i + 1) % 4]];
        crossings.push(...blend(from, to, a / (a - b)));
      }
      for (let i = 0; i + 3 < crossings.length; i += 4) pieces.push(crossings.slice(i, i + 4));
    }
  }
  return pieces;
}

function strokeLines(ctx, pieces, place) {
  ctx.beginPath();
  for (const [x0, y0, x1, y1] of pieces) {
    ctx.moveTo(...place(x0, y0));
    ctx.lineTo(...place(x1, y1));
  }
  ctx.stroke();
}

function drawArrow(ctx, [x0, y0], [x1, y1]) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  for (const turn of [2.6, -2.6]) {
    ctx.moveTo(x1, y1);
    ctx.lineTo(x1 + 9 * Math.cos(angle + turn), y1 + 9 * Math.sin(angle + turn));
  }
  ctx.stroke();
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A slider with its name and its value; `show` writes a value as it is read. It has `set(value)`. */
function addSlider(parent, { id, label, min, max, step, value, show = (v) => number(v) }, onInput) {
  const input = element("input", { type: "range", id, min, max, step, value });
  const output = element("output", { for: id });
  const display = () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => {
    display();
    onInput(Number(input.value));
  });
  parent.append(element("label", { class: "slider", for: id }, element("span", {}, label), input, output));
  display();
  return {
    input,
    set(given) {
      input.value = given;
      display();
    },
  };
}

/** What is chosen among radio buttons of this name. */
function chosen(name) {
  return document.querySelector(`input[name="${name}"]:checked`).value;
}

function onChoice(name, handler) {
  document.querySelectorAll(`input[name="${name}"]`).forEach((radio) => radio.addEventListener("change", handler));
}

/** Writes a sentence, which a screen reader says once nothing has changed for a while, if a hand has changed it. */
function say(id, text) {
  document.getElementById(id).textContent = text;
  if (navigator.userActivation?.hasBeenActive === false) return;
  clearTimeout(say.waiting);
  say.waiting = setTimeout(() => {
    document.getElementById("said").textContent = text;
  }, 700);
}

/** Minus signs and digits as in print. */
function number(value, digits = 2) {
  return value.toFixed(digits).replace("-", "−");
}

/** Where a pointer is on a canvas, from 0 to 1 to the right and downwards. */
function pointerPlace(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}
