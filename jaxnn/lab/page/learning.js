"use strict";
{
  // A small net that learns two spirals, or points that one puts down.
  const HALF = 3;
  const FINE = 64; // places along each axis where the net is asked
  const COARSE = 20; // ... for the small picture of each neuron
  const get = (id) => document.getElementById(id);
  const settings = { layers: 2, width: 8, rate: 0.02 };
  const own = { inputs: [], labels: [] };
  const cross = [0, 0]; // where a key puts the next point
  let [net, takeStep, points, losses, step, seed, running] = [null, null, null, [], 0, 1, false];

  const box = get("learning-sliders");
  const whole = { step: 1, show: (v) => `${v}` };
  addSlider(box, { ...whole, id: "num-layers", label: "Hidden layers", min: 1, max: 4, value: 2 }, (v) => {
    settings.layers = v;
    startAnew();
  });
  addSlider(box, { ...whole, id: "num-neurons", label: "Neurons each", min: 1, max: 12, value: 8 }, (v) => {
    settings.width = v;
    startAnew();
  });
  addSlider(
    box,
    {
      id: "learning-rate",
      label: "η",
      min: -3,
      max: 0.5,
      step: 0.1,
      value: -1.7,
      show: (v) => (10 ** v).toPrecision(2),
    },
    (v) => {
      settings.rate = 10 ** v;
    },
  );

  const activation = () => ACTIVATIONS[chosen("activation")];
  const isOwn = () => chosen("points") === "own";

  /** New weights, and no steps yet. */
  function startAnew() {
    points = isOwn() ? own : spirals(60, randomNumbers(7));
    net = initMlp([2, ...new Array(settings.layers).fill(settings.width), 1], activation(), randomNumbers(seed));
    takeStep = chosen("optimizer") === "adam" ? adam(net) : gradientDescent(net);
    [losses, step] = [[], 0];
    draw();
    tell();
  }

  function train(numSteps) {
    if (!points.labels.length) return;
    for (let i = 0; i < numSteps; i++) {
      const { loss, gradients } = lossAndGradients(net, Float64Array.from(points.inputs), points.labels, activation());
      takeStep(gradients, settings.rate);
      losses.push(loss);
      step++;
    }
  }

  /** Two steps, then a picture, as long as it learns: slow enough to watch. */
  function goOn() {
    if (!running) return;
    train(2);
    draw();
    tell();
    requestAnimationFrame(goOn);
  }

  function setRunning(on) {
    running = on;
    get("learn").textContent = on ? "Pause" : "Learn";
    if (on) goOn();
  }

  function numRight() {
    const logits = forwardMlp(net, Float64Array.from(points.inputs), activation()).at(-1);
    return logits.filter((v, n) => v > 0 === (points.labels[n] === 1)).length;
  }

  function tell() {
    if (!points.labels.length) {
      say("learning-reading", "Put some points of both colours on the plane.");
      return;
    }
    const { loss } = lossAndGradients(net, Float64Array.from(points.inputs), points.labels, activation());
    const numWeights = net.reduce((sum, { weight, bias }) => sum + weight.length + bias.length, 0);
    say(
      "learning-reading",
      `Step ${step.toLocaleString("en")}: loss ${loss.toFixed(3)}, ${numRight()} of` +
        ` ${points.labels.length} points right, with ${numWeights} weights.`,
    );
  }

  /** What every layer computes at size × size places of the plane, the lowest row first. */
  function ask(size) {
    const at = (i) => HALF * ((2 * (i + 0.5)) / size - 1);
    const inputs = new Float64Array(2 * size * size);
    for (let i = 0; i < size * size; i++) [inputs[2 * i], inputs[2 * i + 1]] = [at(i % size), at(Math.floor(i / size))];
    return forwardMlp(net, inputs, activation());
  }

  function draw() {
    drawPlane();
    drawNeurons();
    drawLosses();
  }

  function drawPlane() {
    const { ctx, width, height } = begin(get("plane"));
    const logits = { height: FINE, width: FINE, values: ask(FINE).at(-1) };
    drawGrid(ctx, logits, (v) => diverging(0.75 * (2 * logistic(v) - 1)), [0, 0, width, height], {
      smooth: true,
      flip: true,
    });
    ctx.strokeStyle = css("ink");
    ctx.lineWidth = 1.5;
    strokeLines(ctx, levelLines(logits, 0), (column, row) => [
      (width * (column + 0.5)) / FINE,
      height * (1 - (row + 0.5) / FINE),
    ]);
    const at = (x1, x2) => [(width * (x1 / HALF + 1)) / 2, (height * (1 - x2 / HALF)) / 2];
    ctx.strokeStyle = css("panel");
    points.labels.forEach((label, n) => {
      ctx.beginPath();
      ctx.arc(...at(points.inputs[2 * n], points.inputs[2 * n + 1]), 4.5, 0, 2 * Math.PI);
      ctx.fillStyle = css(label ? "high" : "low");
      ctx.fill();
      ctx.stroke();
    });
    if (isOwn() && document.activeElement === get("plane")) drawCross(ctx, at(...cross));
  }

  function drawCross(ctx, [x, y]) {
    ctx.strokeStyle = css("ink");
    strokeLines(
      ctx,
      [
        [x - 8, y, x + 8, y],
        [x, y - 8, x, y + 8],
      ],
      (a, b) => [a, b],
    );
  }

  /** A column of small pictures for the inputs, each hidden layer and the output, and the weights between them. */
  function drawNeurons() {
    const { ctx, width, height } = begin(get("neurons"));
    const columns = ask(COARSE);
    columns.push(columns.pop().map((v) => logistic(v) - 0.5)); // the output as the plane shows it
    const counts = [2, ...net.map(({ numOutputs }) => numOutputs)];
    const size = Math.min(height / Math.max(...counts) - 4, width / (1.5 * counts.length), 48);
    const corner = (k, j) => [(k * (width - size)) / (counts.length - 1), (height * (j + 0.5)) / counts[k] - size / 2];
    net.forEach((layer, k) =>
      drawWeights(
        ctx,
        layer,
        (i) => corner(k, i),
        (j) => corner(k + 1, j),
        size,
      ),
    );
    columns.forEach((values, k) => {
      const middle = k > 0 && k < net.length && chosen("activation") === "logistic" ? 0.5 : 0;
      for (let j = 0; j < counts[k]; j++) {
        const map = channel({ height: COARSE, width: COARSE, channels: counts[k], values }, j);
        const most = spread(map.values.map((value) => value - middle));
        const place = [...corner(k, j), size, size];
        drawGrid(ctx, map, (value) => diverging((value - middle) / most), place, { smooth: true, flip: true });
        ctx.strokeStyle = css("line");
        ctx.lineWidth = 1;
        ctx.strokeRect(...place);
      }
    });
  }

  function drawWeights(ctx, { numInputs, numOutputs, weight }, from, to, size) {
    const most = Math.max(1, spread(weight));
    for (let i = 0; i < numInputs; i++) {
      for (let j = 0; j < numOutputs; j++) {
        const w = weight[i * numOutputs + j];
        const [[x0, y0], [x1, y1]] = [from(i), to(j)];
        ctx.strokeStyle = css(w > 0 ? "high" : "low", 0.75);
        ctx.lineWidth = (3 * Math.abs(w)) / most;
        strokeLines(ctx, [[x0 + size, y0 + size / 2, x1, y1 + size / 2]], (x, y) => [x, y]);
      }
    }
  }

  function drawLosses() {
    const { ctx, width, height } = begin(get("losses"));
    const most = Math.max(0.75, ...losses.slice(0, 1));
    ctx.fillStyle = css("muted");
    ctx.fillText(most.toFixed(2), 0, 12);
    ctx.fillText("0", 0, height - 2);
    ctx.strokeStyle = css("line");
    strokeLines(ctx, [[34, height - 1, width, height - 1]], (a, b) => [a, b]);
    ctx.strokeStyle = css("low");
    ctx.lineWidth = 2;
    ctx.beginPath();
    const every = Math.max(1, Math.floor(losses.length / 300));
    for (let i = 0; i < losses.length; i += every) {
      const x = 34 + ((width - 34) * i) / Math.max(losses.length - 1, 100);
      ctx.lineTo(x, (height - 2) * (1 - Math.min(losses[i], most) / most));
    }
    ctx.stroke();
  }

  function putDown(x1, x2) {
    own.inputs.push(x1, x2);
    own.labels.push(Number(chosen("own")));
    drawPlane();
    tell();
  }

  function showWhatBelongsToOwn() {
    get("own-class").hidden = get("own-help").hidden = !isOwn();
  }

  get("plane").addEventListener("pointerdown", (event) => {
    if (!isOwn()) return;
    const [right, down] = pointerPlace(get("plane"), event);
    putDown(HALF * (2 * right - 1), HALF * (1 - 2 * down));
  });
  get("plane").addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!isOwn() || !(move || event.key === " ")) return;
    event.preventDefault();
    if (move)
      move.forEach((m, i) => {
        cross[i] = Math.min(Math.max(cross[i] + 0.2 * m, -2.8), 2.8);
      });
    else putDown(...cross);
    drawPlane();
  });
  for (const name of ["focus", "blur"]) get("plane").addEventListener(name, drawPlane);
  get("learn").addEventListener("click", () => setRunning(!running));
  get("learn-100").addEventListener("click", () => {
    train(100);
    draw();
    tell();
  });
  get("learn-anew").addEventListener("click", () => {
    seed++;
    startAnew();
  });
  get("own-clear").addEventListener("click", () => {
    [own.inputs, own.labels] = [[], []];
    startAnew();
  });
  onChoice("points", () => {
    showWhatBelongsToOwn();
    startAnew();
  });
  onChoice("activation", startAnew);
  onChoice("optimizer", startAnew);
  showWhatBelongsToOwn();
  startAnew();
  drawings.push(draw);
}
