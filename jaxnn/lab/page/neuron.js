"use strict";
{
  // One neuron, whose boundary is straight; then three of them and a linear one, whose boundary is not.
  const TURN = { label: "Turn it", min: -180, max: 180, step: 1, value: -60, show: (v) => `${number(v, 0)}°` };
  const get = (id) => document.getElementById(id);

  const DECK = {
    // weights of pages 4 and 6; thresholds that one can pull, and where they begin
    linear: { weights: [2, 8, 0], thresholds: [-40, 40, 1], threshold: 0 },
    logistic: { weights: [0.4, 1.6, 0], thresholds: [0.05, 0.95, 0.01], threshold: 0.5 },
  };
  const neuron = { w: [0.4, 1.6], b: 0, threshold: 0.5, turn: -60 };
  const box = get("neuron-sliders");
  const changed = () => {
    drawNeuron();
    say("neuron-reading", neuronSentence());
  };
  const weight = { min: -8, max: 8, step: 0.1 };
  const sliders = [
    addSlider(box, { ...weight, id: "neuron-w1", label: "w₁", value: 0.4 }, (v) => {
      neuron.w[0] = v;
      changed();
    }),
    addSlider(box, { ...weight, id: "neuron-w2", label: "w₂", value: 1.6 }, (v) => {
      neuron.w[1] = v;
      changed();
    }),
    addSlider(box, { ...weight, id: "neuron-b", label: "b", value: 0 }, (v) => {
      neuron.b = v;
      changed();
    }),
  ];
  const threshold = addSlider(
    box,
    { id: "neuron-threshold", label: "Threshold", min: 0.05, max: 0.95, step: 0.01, value: 0.5 },
    (v) => {
      neuron.threshold = v;
      changed();
    },
  );
  addSlider(box, { ...TURN, id: "neuron-turn" }, (v) => {
    neuron.turn = v;
    drawNeuron();
  });

  function takeDeck() {
    const { weights, thresholds, threshold: begins } = DECK[chosen("neuron-kind")];
    sliders.forEach((slider, i) => slider.set(weights[i]));
    [neuron.w, neuron.b, neuron.threshold] = [weights.slice(0, 2), weights[2], begins];
    [threshold.input.min, threshold.input.max, threshold.input.step] = thresholds;
    threshold.set(begins);
    changed();
  }

  function drawNeuron() {
    const isLogistic = chosen("neuron-kind") === "logistic";
    const { w, b } = neuron;
    const grid = sample((x1, x2) => {
      const v = w[0] * x1 + w[1] * x2 + b;
      return isLogistic ? logistic(v) : v;
    }, 5);
    const most = Math.max(10, spread(grid.values));
    const shown = { level: neuron.threshold, arrow: w, turn: neuron.turn, range: isLogistic ? [0, 1] : [-most, most] };
    drawSurface(get("neuron-surface"), grid, shown);
    drawFromAbove(get("neuron-above"), grid, shown);
  }

  function neuronSentence() {
    const { w, b, threshold: t } = neuron;
    const length = Math.hypot(...w);
    const added = (value) => `${value < 0 ? "−" : "+"} ${Math.abs(value).toFixed(2)}`;
    const sum = `${number(w[0])} x₁ ${added(w[1])} x₂ ${added(b)}`;
    const isLogistic = chosen("neuron-kind") === "logistic";
    const formula = isLogistic ? `y = σ(${sum})` : `y = ${sum}`;
    if (length < 1e-9) return `${formula}. Without weights it answers the same everywhere.`;
    const activity = isLogistic ? Math.log(t / (1 - t)) : t;
    const distance = (activity - b) / length;
    const boundary = `The boundary y = ${number(t)} lies ${number(distance)} from the origin along w.`;
    return `${formula}. ‖w‖ = ${number(length)}: the longer, the steeper. ${boundary}`;
  }

  onChoice("neuron-kind", takeDeck);
  get("neuron-deck").addEventListener("click", takeDeck);

  // Three units.

  const PRINTED = [
    // page 8: w₁, w₂, b and v of each unit
    [0.98, -1.3, -3.5, -7.7],
    [1.8, 0.2, 3.4, 7.4],
    [0.67, 1.5, -3.5, -7.6],
  ];
  const units = { weights: PRINTED.map((row) => [...row]), threshold: 0, turn: -60 };
  const maps = [];
  const unitSliders = PRINTED.map((row, i) => {
    const canvas = element("canvas", {
      id: `unit-${i + 1}`,
      class: "square",
      role: "img",
      "aria-label": `What unit ${i + 1} adds to the sum`,
    });
    const inner = element("div");
    get("units").append(element("fieldset", { class: "unit" }, element("legend", {}, `Unit ${i + 1}`), canvas, inner));
    maps.push(canvas);
    return ["w₁", "w₂", "b", "v"].map((label, j) =>
      addSlider(
        inner,
        {
          id: `unit-${i + 1}-${["w1", "w2", "b", "v"][j]}`,
          label,
          value: row[j],
          step: 0.01,
          ...(j === 3 ? { min: -10, max: 10 } : { min: -5, max: 5 }),
        },
        (v) => {
          units.weights[i][j] = v;
          unitsChanged();
        },
      ),
    );
  });
  addSlider(
    get("units-sliders"),
    { id: "units-threshold", label: "Threshold", min: -6, max: 6, step: 0.1, value: 0 },
    (v) => {
      units.threshold = v;
      unitsChanged();
    },
  );
  addSlider(get("units-sliders"), { ...TURN, id: "units-turn" }, (v) => {
    units.turn = v;
    drawUnits();
  });

  function unit([w1, w2, b, v], isLogistic) {
    return (x1, x2) => v * (isLogistic ? logistic(w1 * x1 + w2 * x2 + b) : w1 * x1 + w2 * x2 + b);
  }

  function sumOfUnits(numPoints) {
    const isLogistic = chosen("units-activation") === "logistic";
    const terms = units.weights.map((weights) => unit(weights, isLogistic));
    return { terms, grid: sample((x1, x2) => terms.reduce((sum, term) => sum + term(x1, x2), 0), 6, numPoints) };
  }

  function drawUnits() {
    const { terms, grid } = sumOfUnits();
    const grids = terms.map((term) => sample(term, 6));
    const most = Math.max(...grids.map(({ values }) => spread(values)));
    grids.forEach((one, i) => {
      const [, , , v] = units.weights[i];
      const halfway = chosen("units-activation") === "logistic" ? v / 2 : 0; // where the unit's own boundary is
      drawUnit(maps[i], one, halfway, most);
    });
    const high = Math.max(8, spread(grid.values));
    const shown = { level: units.threshold, turn: units.turn, range: [-high, high] };
    drawSurface(get("units-surface"), grid, shown);
    drawFromAbove(get("units-above"), grid, shown);
  }

  function drawUnit(canvas, grid, boundary, most) {
    const { ctx, width, height } = begin(canvas);
    drawGrid(ctx, grid, (value) => diverging(value / most), [0, 0, width, height], { smooth: true, flip: true });
    ctx.strokeStyle = css("ink");
    ctx.lineWidth = 1.5;
    const last = NUM_POINTS - 1;
    strokeLines(ctx, levelLines(grid, boundary), (column, row) => [(width * column) / last, height * (1 - row / last)]);
  }

  function unitsChanged() {
    drawUnits();
    const { values } = sumOfUnits(241).grid; // fine enough for two decimals
    const shape =
      chosen("units-activation") === "logistic" ? "It may be curved" : "Without an activation function it is straight";
    say(
      "units-reading",
      `On this square y runs from ${number(smallest(values))} to ${number(largest(values))}. The boundary is where` +
        ` y = ${number(units.threshold)}. ${shape}.`,
    );
  }

  onChoice("units-activation", unitsChanged);
  get("units-deck").addEventListener("click", () => {
    units.weights = PRINTED.map((row) => [...row]);
    unitSliders.forEach((row, i) => row.forEach((slider, j) => slider.set(PRINTED[i][j])));
    unitsChanged();
  });

  keepDrawn(drawNeuron);
  keepDrawn(drawUnits);
  changed();
  unitsChanged();
}
