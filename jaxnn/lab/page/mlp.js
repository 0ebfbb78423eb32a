"use strict";
// A small fully connected net with one logit, trained by the deck's Δ equations (pages 15 and 16) for whole batches.
// A layer is {numInputs, numOutputs, weight, bias}; weight has a row for each input. Examples lie one after the other.

const ACTIVATIONS = {
  // f, and its derivative where f(v) = x
  tanh: { f: Math.tanh, derivative: (x) => 1 - x * x },
  ReLU: { f: (v) => Math.max(v, 0), derivative: (x) => (x > 0 ? 1 : 0) },
  logistic: { f: logistic, derivative: (x) => x * (1 - x) },
  identity: { f: (v) => v, derivative: () => 1 },
};

function logistic(v) {
  return 1 / (1 + Math.exp(-v));
}

/** Numbers from 0 to 1 by a seed, always the same (Tommy Ettinger's mulberry32). */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A normally distributed number, by Box and Muller. */
function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** The layers of a net with these widths, inputs and outputs included: Glorot's weights, for ReLU He's. */
function initMlp(widths, activation, random) {
  return widths.slice(1).map((numOutputs, i) => {
    const numInputs = widths[i];
    const sd = Math.sqrt(activation === ACTIVATIONS.ReLU ? 2 / numInputs : 2 / (numInputs + numOutputs));
    const weight = Float64Array.from({ length: numInputs * numOutputs }, () => sd * normal(random));
    return { numInputs, numOutputs, weight, bias: new Float64Array(numOutputs) };
  });
}

/** x⁽ᵏ⁾ = f(x⁽ᵏ⁻¹⁾W⁽ᵏ⁾ + b⁽ᵏ⁾) of every layer, the inputs first; the last layer has no activation function. */
function forwardMlp(net, inputs, activation) {
  const outputs = [inputs];
  net.forEach(({ numInputs, numOutputs, weight, bias }, k) => {
    const before = outputs[k];
    const after = new Float64Array((before.length / numInputs) * numOutputs);
    for (let n = 0, out = 0; n < before.length; n += numInputs) {
      for (let j = 0; j < numOutputs; j++, out++) {
        let v = bias[j];
        for (let i = 0; i < numInputs; i++) v += before[n + i] * weight[i * numOutputs + j];
        after[out] = k === net.length - 1 ? v : activation.f(v);
      }
    }
    outputs.push(after);
  });
  return outputs;
}

/** Mean cross-entropy of labels 0 or 1, and its gradient by each layer's weight and bias. */
function lossAndGradients(net, inputs, labels, activation) {
  const outputs = forwardMlp(net, inputs, activation);
  const logits = outputs[net.length];
  const loss = logits.reduce(
    (sum, v, n) => sum + Math.max(v, 0) - v * labels[n] + Math.log1p(Math.exp(-Math.abs(v))),
    0,
  );
  let delta = logits.map((v, n) => (logistic(v) - labels[n]) / labels.length);
  const gradients = [];
  for (let k = net.length - 1; k >= 0; k--) {
    gradients[k] = layerGradients(net[k], outputs[k], delta);
    if (k > 0) delta = deltaBelow(net[k], outputs[k], delta, activation);
  }
  return { loss: loss / labels.length, gradients };
}

/** (x⁽ᵏ⁻¹⁾Δ⁽ᵏ⁾)ᵀ and Δ⁽ᵏ⁾, summed over the examples. */
function layerGradients({ numInputs, numOutputs }, inputs, delta) {
  const [weight, bias] = [new Float64Array(numInputs * numOutputs), new Float64Array(numOutputs)];
  for (let n = 0; n < delta.length / numOutputs; n++) {
    for (let j = 0; j < numOutputs; j++) {
      const d = delta[n * numOutputs + j];
      bias[j] += d;
      for (let i = 0; i < numInputs; i++) weight[i * numOutputs + j] += inputs[n * numInputs + i] * d;
    }
  }
  return { weight, bias };
}

/** Δ⁽ᵏ⁻¹⁾ = Δ⁽ᵏ⁾W⁽ᵏ⁾ f'(v⁽ᵏ⁻¹⁾) */
function deltaBelow({ numInputs, numOutputs, weight }, inputs, delta, activation) {
  return inputs.map((x, at) => {
    const [n, i] = [Math.floor(at / numInputs), at % numInputs];
    let sum = 0;
    for (let j = 0; j < numOutputs; j++) sum += delta[n * numOutputs + j] * weight[i * numOutputs + j];
    return sum * activation.derivative(x);
  });
}

/** A function that takes a step of plain gradient descent: w ← w - η∇L. */
function gradientDescent(net) {
  return (gradients, rate) =>
    eachArray(net, gradients, (array, gradient) => {
      gradient.forEach((g, i) => {
        array[i] -= rate * g;
      });
    });
}

/** A function that takes a step of Adam (Kingma & Ba, 2015). */
function adam(net) {
  const means = new Map();
  let step = 0;
  return (gradients, rate) => {
    step += 1;
    const [fade1, fade2] = [1 - 0.9 ** step, 1 - 0.999 ** step];
    eachArray(net, gradients, (array, gradient) => {
      if (!means.has(array)) means.set(array, [new Float64Array(array.length), new Float64Array(array.length)]);
      const [first, second] = means.get(array);
      gradient.forEach((g, i) => {
        first[i] = 0.9 * first[i] + 0.1 * g;
        second[i] = 0.999 * second[i] + 0.001 * g * g;
        array[i] -= (rate * first[i]) / fade1 / (Math.sqrt(second[i] / fade2) + 1e-8);
      });
    });
  };
}

function eachArray(net, gradients, visit) {
  net.forEach((layer, k) => ["weight", "bias"].forEach((name) => visit(layer[name], gradients[k][name])));
}

/** Points of two spirals in [-3, 3]², and which of them each is on. */
function spirals(numEach, random, noise = 0.06) {
  const [inputs, labels] = [[], []];
  for (let n = 0; n < 2 * numEach; n++) {
    const label = n % 2;
    const t = 0.08 + 0.92 * ((n >> 1) / (numEach - 1));
    const angle = 3 * Math.PI * t + label * Math.PI;
    inputs.push(2.7 * t * Math.cos(angle) + noise * normal(random), 2.7 * t * Math.sin(angle) + noise * normal(random));
    labels.push(label);
  }
  return { inputs, labels };
}
