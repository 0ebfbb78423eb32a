"use strict";
// A drawing made like MNIST's digits, by the steps of jaxnn/lab/images.py. A picture is {height, width, values}.

const BOX = 20; // MNIST fits the digit into such a square ...
const FIELD = 28; // ... and puts its centre of mass into pixel 14 of this one, both ways

/** The digit in a grey picture, 0 black ... 1 white, as 28x28 pixels 0 ... 255; null where there is only background. */
function likeMnist(picture) {
  const found = findInk(picture);
  return found && centreByMass(fitIntoBox(crop(found.ink, found.drawn)));
}

/** The pixels of a canvas in grey, rounded as Pillow rounds them. */
function readGrey(canvas) {
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const values = new Float64Array(width * height);
  for (let i = 0, at = 0; i < values.length; i++, at += 4) {
    values[i] = ((19595 * data[at] + 38470 * data[at + 1] + 7471 * data[at + 2] + 0x8000) >> 16) / 255;
  }
  return { height, width, values };
}

/** How much ink each pixel has, 0 to 1, and where the strokes are; specks of dust are left out. */
function findInk(picture) {
  const { height, width } = picture;
  const paper = background(picture);
  let difference = picture.values.map((value, i) => value - paper[i]);
  let smooth = blur({ height, width, values: difference }, Math.max(height, width) / 400);
  if (-smallest(smooth) > largest(smooth)) {
    // dark on light
    difference = difference.map((value) => -value);
    smooth = smooth.map((value) => -value);
  }
  const peak = largest(smooth);
  if (peak < 0.05) return null;
  const drawn = withoutSpecks(
    Uint8Array.from(smooth, (value) => value > 0.4 * peak),
    height,
    width,
  );
  const near = dilate(drawn, height, width, 1 + Math.floor(Math.max(height, width) / 200)); // soft edges of strokes
  const full = median(difference.filter((_, i) => drawn[i]));
  const ink = difference.map((value, i) => (near[i] ? Math.min(Math.max(value / full, 0), 1) : 0));
  return { ink: { height, width, values: ink }, drawn };
}

/** The paper, however the light falls: the plane through the edge of the picture, whatever ink reaches it. */
function background(picture) {
  const { height, width, values } = picture;
  const margin = Math.max(1, Math.floor(Math.min(height, width) / 20));
  let edge = [];
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      const fromEdge = Math.min(row, column, height - 1 - row, width - 1 - column);
      if (fromEdge < margin) edge.push(i);
    }
  }
  let plane;
  for (let round = 0; round < 3; round++) {
    plane = fitPlane(picture, edge);
    const errors = edge.map((i) => Math.abs(values[i] - plane(i)));
    const limit = 2 * median(errors) + 0.02;
    edge = edge.filter((_, k) => errors[k] <= limit);
  }
  return values.map((_, i) => plane(i));
}

/** The plane that comes nearest to these pixels, as a function of a pixel: least squares by the normal equations. */
function fitPlane({ height, width, values }, pixels) {
  const sums = new Float64Array(12); // three equations, each with three factors and what they are to give
  const terms = [1, 0, 0, 0];
  for (const i of pixels) {
    [terms[1], terms[2], terms[3]] = [Math.floor(i / width) / height, (i % width) / width, values[i]];
    for (let j = 0; j < 3; j++) for (let k = 0; k < 4; k++) sums[4 * j + k] += terms[j] * terms[k];
  }
  const [a, b, c] = solve([0, 4, 8].map((start) => [...sums.subarray(start, start + 4)]));
  return (i) => a + b * (Math.floor(i / width) / height) + c * ((i % width) / width);
}

/** The solution of linear equations, rows of factors and what they are to give, by elimination. */
function solve(system) {
  const size = system.length;
  for (let i = 0; i < size; i++) {
    if (Math.abs(system[i][i]) < 1e-9) continue; // the pixels do not tell
    for (let j = 0; j < size; j++) {
      if (j === i) continue;
      const factor = system[j][i] / system[i][i];
      for (let k = i; k <= size; k++) system[j][k] -= factor * system[i][k];
    }
  }
  return system.map((row, i) => (Math.abs(row[i]) < 1e-9 ? 0 : row[size] / row[i]));
}

/** A Gaussian filter, first along columns, then along rows; beyond its edge the picture is mirrored. */
function blur({ height, width, values }, sigma) {
  const radius = Math.floor(4 * sigma + 0.5);
  const bell = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-0.5 * ((i - radius) / sigma) ** 2));
  const sum = bell.reduce((a, b) => a + b);
  const mirror = (i, length) => {
    const place = ((i % (2 * length)) + 2 * length) % (2 * length);
    return place < length ? place : 2 * length - 1 - place;
  };
  const along = (source, length, stride, lines, lineStride) => {
    const result = new Float64Array(source.length);
    const places = Array.from({ length: length + 2 * radius }, (_, i) => stride * mirror(i - radius, length));
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < length; i++) {
        let total = 0;
        for (let k = 0; k <= 2 * radius; k++) total += bell[k] * source[line * lineStride + places[i + k]];
        result[line * lineStride + i * stride] = total / sum;
      }
    }
    return result;
  };
  return along(along(values, height, width, width, 1), width, 1, height, width);
}

/** The parts of a drawing, of pixels that touch, that have a twentieth of the largest part's pixels or more. */
function withoutSpecks(drawn, height, width) {
  const part = new Int32Array(drawn.length);
  const sizes = [0];
  for (let start = 0; start < drawn.length; start++) {
    if (!drawn[start] || part[start]) continue;
    const number = sizes.length;
    const waiting = [start];
    part[start] = number;
    sizes.push(0);
    while (waiting.length) {
      const i = waiting.pop();
      sizes[number]++;
      const row = Math.floor(i / width);
      for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, height - 1); y++) {
        for (let x = Math.max((i % width) - 1, 0); x <= Math.min((i % width) + 1, width - 1); x++) {
          if (drawn[y * width + x] && !part[y * width + x]) {
            part[y * width + x] = number;
            waiting.push(y * width + x);
          }
        }
      }
    }
  }
  const least = 0.05 * largest(sizes);
  return drawn.map((_, i) => part[i] > 0 && sizes[part[i]] >= least);
}

/** The drawing, grown so many times by the neighbours above, below, left and right. */
function dilate(drawn, height, width, times) {
  let grown = drawn;
  for (let time = 0; time < times; time++) {
    const before = grown;
    grown = before.map((value, i) => {
      const column = i % width;
      return (
        value ||
        before[i - width] ||
        before[i + width] ||
        (column > 0 && before[i - 1]) ||
        (column < width - 1 && before[i + 1]) ||
        0
      );
    });
  }
  return grown;
}

/** The part of the ink that has strokes. */
function crop({ width, values }, drawn) {
  let [top, bottom, left, right] = [Infinity, -1, Infinity, -1];
  drawn.forEach((is, i) => {
    if (!is) return;
    const [row, column] = [Math.floor(i / width), i % width];
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    [left, right] = [Math.min(left, column), Math.max(right, column)];
  });
  const size = { height: bottom - top + 1, width: right - left + 1 };
  const at = (i) => values[(top + Math.floor(i / size.width)) * width + left + (i % size.width)];
  return { ...size, values: Float32Array.from({ length: size.height * size.width }, (_, i) => at(i)) };
}

/** The ink scaled to fit into 20x20 pixels with its proportions kept, 0 ... 255. */
function fitIntoBox(ink) {
  const scale = BOX / Math.max(ink.height, ink.width);
  const height = Math.max(1, roundToEven(ink.height * scale));
  const width = Math.max(1, roundToEven(ink.width * scale));
  const { values } = resize(ink, height, width);
  const peak = largest(values);
  const bytes = values.map((value) => roundToEven(Math.fround(Math.fround(255 * value) / peak)));
  return { height, width, values: bytes };
}

/** Bilinear, as Pillow has it: each new pixel is the mean, under a triangle, of all that it covers. */
function resize(picture, height, width) {
  const wide = resizeRows(picture, width);
  return transpose(resizeRows(transpose(wide), height));
}

function resizeRows({ height, width, values }, newWidth) {
  if (newWidth === width) return { height, width, values };
  const scale = width / newWidth;
  const support = Math.max(scale, 1);
  const result = new Float32Array(height * newWidth);
  for (let x = 0; x < newWidth; x++) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), width);
    const weights = [];
    for (let i = first; i < last; i++) weights.push(Math.max(1 - Math.abs((i - centre + 0.5) / support), 0));
    const sum = weights.reduce((a, b) => a + b);
    for (let y = 0; y < height; y++) {
      let total = 0;
      weights.forEach((weight, k) => {
        total += (weight / sum) * values[y * width + first + k];
      });
      result[y * newWidth + x] = total;
    }
  }
  return { height, width: newWidth, values: result };
}

function transpose({ height, width, values }) {
  return {
    height: width,
    width: height,
    values: values.map((_, i) => values[(i % height) * width + Math.floor(i / height)]),
  };
}

/** The digit in a black square of 28x28, with its centre of mass in the middle. */
function centreByMass({ height, width, values }) {
  let [mass, rows, columns] = [0, 0, 0];
  values.forEach((value, i) => {
    mass += value;
    rows += value * Math.floor(i / width);
    columns += value * (i % width);
  });
  const corner = (centre, size) => Math.min(Math.max(roundToEven(FIELD / 2 - centre), 0), FIELD - size);
  const [top, left] = [corner(rows / mass, height), corner(columns / mass, width)];
  const field = new Float32Array(FIELD * FIELD);
  values.forEach((value, i) => {
    field[(top + Math.floor(i / width)) * FIELD + left + (i % width)] = value;
  });
  return field;
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** As Python rounds: a half goes to the even neighbour. */
function roundToEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

function largest(values) {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}

function smallest(values) {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
}
