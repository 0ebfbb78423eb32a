"use strict";
// The net of jaxnn/cnn.py, without its training. Maps are {height, width, channels, values}, channels last.
// A layer of the net is {kernel, scale, shift}: batch normalisation, once trained, is a scale and a shift per channel.

/** An array {shape, float16}, float16 in base64, as {shape, values}. */
function decode({ shape, float16 }) {
  const bytes = Uint8Array.from(atob(float16), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = Float32Array.from({ length: bytes.length / 2 }, (_, i) => halfToNumber(view.getUint16(2 * i, true)));
  return { shape, values };
}

/** The number that 16 bits stand for: sign, exponent (5 bits), fraction (10 bits). */
function halfToNumber(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The correlation that a convolution layer computes, with a kernel of shape [height, width, inputs, outputs]. */
function convolve(maps, { shape: [rows, columns, inputs, outputs], values: weights }) {
  const [height, width] = [maps.height - rows + 1, maps.width - columns + 1];
  const values = new Float32Array(height * width * outputs);
  eachProduct(maps, rows, columns, height, width, (input, weight, output) => {
    for (let c = 0; c < inputs; c++) {
      const value = maps.values[input + c];
      if (value === 0) continue; // most of a drawing is paper
      const from = (weight * inputs + c) * outputs;
      for (let k = 0; k < outputs; k++) values[output * outputs + k] += value * weights[from + k];
    }
  });
  return { height, width, channels: outputs, values };
}

/** The gradient of what comes out of `convolve`, brought back to what went in. */
function convolveBack(gradient, maps, { shape: [rows, columns, inputs, outputs], values: weights }) {
  const values = new Float32Array(maps.values.length);
  eachProduct(maps, rows, columns, gradient.height, gradient.width, (input, weight, output) => {
    for (let k = 0; k < outputs; k++) {
      const value = gradient.values[output * outputs + k];
      if (value === 0) continue;
      for (let c = 0; c < inputs; c++) values[input + c] += value * weights[(weight * inputs + c) * outputs + k];
    }
  });
  return { ...maps, values };
}

/** Calls `visit` with where each product of a convolution finds its input, its weights and its output. */
function eachProduct(maps, rows, columns, height, width, visit) {
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const input = ((y + row) * maps.width + x + column) * maps.channels;
          visit(input, row * columns + column, y * width + x);
        }
      }
    }
  }
}

/** The largest of each 2x2 values, and `from` where it stood. */
function maxPool({ height, width, channels, values }) {
  const pooled = { height: height >> 1, width: width >> 1, channels };
  const from = new Int32Array(pooled.height * pooled.width * channels);
  for (let i = 0; i < from.length; i++) {
    const [channel, place] = [i % channels, Math.floor(i / channels)];
    const corner = 2 * Math.floor(place / pooled.width) * width + 2 * (place % pooled.width);
    const places = [corner, corner + 1, corner + width, corner + width + 1].map((at) => at * channels + channel);
    from[i] = places.reduce((best, at) => (values[at] > values[best] ? at : best));
  }
  return { ...pooled, values: Float32Array.from(from, (at) => values[at]), from };
}

/** scale · x + shift for each channel, then ReLU. */
function normaliseAndRelu(maps, { scale, shift }) {
  const { channels, values } = maps;
  const relu = (x, i) => Math.max(scale.values[i % channels] * x + shift.values[i % channels], 0);
  return { ...maps, values: values.map(relu) };
}

function dense(inputs, { shape: [, outputs], values: weights }) {
  const values = new Float32Array(outputs);
  inputs.forEach((input, i) => {
    if (input === 0) return;
    for (let k = 0; k < outputs; k++) values[k] += input * weights[i * outputs + k];
  });
  return { height: 1, width: 1, channels: outputs, values };
}

function denseBack(gradient, { shape: [inputs, outputs], values: weights }) {
  const row = (i) => gradient.reduce((sum, value, k) => sum + value * weights[i * outputs + k], 0);
  return Float32Array.from({ length: inputs }, (_, i) => row(i));
}

function softmax(logits) {
  const peak = largest(logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - peak));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** What a net makes of 28x28 pixels 0 ... 255: each layer on the way, logits, probabilities, best class. */
function readDigit(net, pixels) {
  let maps = { height: FIELD, width: FIELD, channels: 1, values: Float32Array.from(pixels, (pixel) => pixel / 255) };
  const layers = net.slice(0, -2).map((layer) => {
    const convolved = convolve(maps, layer.kernel);
    const pooled = maxPool(convolved);
    const seen = { inputs: maps, convolved, pooled, active: normaliseAndRelu(pooled, layer) };
    maps = seen.active;
    return seen;
  });
  const [hiddenLayer, last] = net.slice(-2);
  const hidden = normaliseAndRelu(dense(maps.values, hiddenLayer.kernel), hiddenLayer).values;
  const logits = dense(hidden, last.kernel).values.map(
    (value, k) => value * last.scale.values[k] + last.shift.values[k],
  );
  const probabilities = softmax(logits);
  return { pixels, layers, hidden, logits, probabilities, best: probabilities.indexOf(largest(probabilities)) };
}

/** Ink times the gradient of the answer's log-probability: how much each pixel's ink speaks for the answer. */
function inkTimesGradient(net, seen) {
  const [hiddenLayer, last] = net.slice(-2);
  const error = seen.probabilities.map((p, k) => ((k === seen.best ? 1 : 0) - p) * last.scale.values[k]);
  const atHidden = denseBack(error, last.kernel).map((g, i) =>
    seen.hidden[i] > 0 ? g * hiddenLayer.scale.values[i] : 0,
  );
  let gradient = denseBack(atHidden, hiddenLayer.kernel);
  for (let number = seen.layers.length - 1; number >= 0; number--) {
    const { inputs, convolved, pooled, active } = seen.layers[number];
    const values = new Float32Array(convolved.values.length);
    const scales = net[number].scale.values;
    gradient.forEach((g, i) => {
      if (active.values[i] > 0) values[pooled.from[i]] = g * scales[i % scales.length];
    });
    gradient = convolveBack({ ...convolved, values }, inputs, net[number].kernel).values;
  }
  return gradient.map((g, i) => g * seen.layers[0].inputs.values[i]);
}

const HIDDEN_SQUARE = 7;

/** How far the answer's log-probability falls where the 7x7 square with this corner is hidden. */
function fallWhereHidden(net, seen, row, column) {
  const pixels = Float32Array.from(seen.pixels);
  let ink = 0;
  for (let y = row; y < row + HIDDEN_SQUARE; y++) {
    for (let x = column; x < column + HIDDEN_SQUARE; x++) {
      ink += pixels[y * FIELD + x];
      pixels[y * FIELD + x] = 0;
    }
  }
  if (!ink) return 0;
  return Math.log(seen.probabilities[seen.best]) - Math.log(readDigit(net, pixels).probabilities[seen.best]);
}

/** Rows of the occlusion map, as they are computed; each fall stands at the middle of its square. */
function* occlusion(net, seen) {
  const values = new Float32Array(FIELD * FIELD);
  const middle = HIDDEN_SQUARE >> 1;
  for (let row = 0; row <= FIELD - HIDDEN_SQUARE; row++) {
    for (let column = 0; column <= FIELD - HIDDEN_SQUARE; column++) {
      values[(row + middle) * FIELD + column + middle] = fallWhereHidden(net, seen, row, column);
    }
    yield values;
  }
}
