"use strict";

const MAX_STEPS = 20_000;

/** Gradient descent on 4x₁² + x₂² until a step is shorter than 1e-7: its path, and how it ends. */
function descendBowl(start, rate) {
  const path = [start];
  for (let step = 1; step <= MAX_STEPS; step++) {
    const [x1, x2] = path[path.length - 1];
    const move = [-rate * 8 * x1, -rate * 2 * x2];
    path.push([x1 + move[0], x2 + move[1]]);
    if (Math.hypot(...move) < 1e-7) return { path, end: "converged" };
    if (Math.hypot(...path[step]) > 1e6) return { path, end: "diverged" };
  }
  return { path, end: "neither" };
}

function bowl([x1, x2]) {
  return 4 * x1 ** 2 + x2 ** 2;
}

{
  // Gradient descent with a learning rate to pull.
  const HALF = 4;
  const get = (id) => document.getElementById(id);
  const descent = { start: [3, 3], rate: 0.02 };
  const box = get("descent-sliders");
  const place = { min: -4, max: 4, step: 0.1, value: 3 };
  const rate = addSlider(
    box,
    {
      id: "descent-rate",
      label: "η",
      min: 0.001,
      max: 0.3,
      step: 0.001,
      value: 0.02,
      show: (v) => v.toFixed(3),
    },
    (v) => {
      descent.rate = v;
      changed();
    },
  );
  const starts = ["x₁", "x₂"].map((name, i) =>
    addSlider(box, { ...place, id: `descent-x${i + 1}`, label: `Start ${name}` }, (v) => {
      descent.start[i] = v;
      changed();
    }),
  );

  function set(newRate, start = descent.start) {
    [descent.rate, descent.start] = [newRate, [...start]];
    rate.set(newRate);
    starts.forEach((slider, i) => slider.set(start[i]));
    changed();
  }

  function draw() {
    const found = descendBowl(descent.start, descent.rate);
    drawPath(found);
    drawHeights(found);
    return found;
  }

  function drawPath({ path, end }) {
    const { ctx, width, height } = begin(get("bowl"));
    const at = ([x1, x2]) => [(width * (x1 / HALF + 1)) / 2, (height * (1 - x2 / HALF)) / 2];
    const [cx, cy] = at([0, 0]);
    for (const level of [64, 49, 36, 25, 16, 9, 4, 1]) {
      const r = Math.sqrt(level);
      ctx.beginPath();
      ctx.ellipse(cx, cy, ((r / 2) * width) / (2 * HALF), (r * height) / (2 * HALF), 0, 0, 2 * Math.PI);
      ctx.fillStyle = css("low", 0.07);
      ctx.fill();
      ctx.strokeStyle = css("low", 0.35);
      ctx.stroke();
    }
    ctx.strokeStyle = ctx.fillStyle = css(end === "converged" ? "ink" : "high");
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    const shown = path.slice(0, 400);
    shown.forEach((x, i) => (i ? ctx.lineTo(...at(x)) : ctx.moveTo(...at(x))));
    ctx.stroke();
    for (const x of shown) {
      ctx.beginPath();
      ctx.arc(...at(x), 2.5, 0, 2 * Math.PI);
      ctx.fill();
    }
    ctx.beginPath();
    ctx.arc(...at(path[0]), 6, 0, 2 * Math.PI);
    ctx.fill();
    ctx.fillStyle = css("muted");
    for (const x of [-2, 0, 2]) {
      ctx.fillText(number(x, 0), at([x, 0])[0] - 4, height - 5);
      ctx.fillText(number(x, 0), 4, at([0, x])[1] + 4);
    }
    ctx.fillText("x₁", width - 18, height - 5);
    ctx.fillText("x₂", 4, 14);
  }

  function drawHeights({ path, end }) {
    const { ctx, width, height } = begin(get("heights"));
    const [left, bottom, lowest, highest] = [54, 22, -15, 4]; // powers of ten
    const steps = end === "neither" ? 100 : Math.max(10, path.length - 1);
    const x = (step) => left + ((width - left - 8) * step) / steps;
    const y = (f) => (height - bottom) * (1 - (Math.log10(Math.max(f, 1e-300)) - lowest) / (highest - lowest));
    ctx.fillStyle = css("muted");
    ctx.strokeStyle = css("line");
    for (let power = lowest; power <= highest; power++) {
      strokeLines(ctx, [[left, y(10 ** power), width, y(10 ** power)]], (a, b) => [a, b]);
      if (power % 4 === 0)
        ctx.fillText(power ? `1e${number(power, 0)}` : "1", 4, Math.min(Math.max(y(10 ** power) + 4, 12), height - 26));
    }
    ctx.fillText("0", left, height - 5);
    ctx.textAlign = "right";
    ctx.fillText(`step ${steps.toLocaleString("en")}`, width - 4, height - 5);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, 0, width - left, height - bottom);
    ctx.clip();
    ctx.strokeStyle = css(end === "converged" ? "low" : "high");
    ctx.lineWidth = 2;
    ctx.beginPath();
    path
      .slice(0, steps + 1)
      .forEach((point, step) => (step ? ctx.lineTo(x(step), y(bowl(point))) : ctx.moveTo(x(0), y(bowl(point)))));
    ctx.stroke();
    ctx.restore();
  }

  function changed() {
    const { path, end } = draw();
    const steps = (path.length - 1).toLocaleString("en");
    const factors = [8, 2].map(
      (curvature, i) => `${"x₁x₂".slice(2 * i, 2 * i + 2)} by ${number(1 - curvature * descent.rate, 3)}`,
    );
    const told = {
      converged: `It arrives: after ${steps} steps a step is shorter than 1e−7.`,
      diverged: `It diverges: after ${steps} steps it is a million away.`,
      neither: "It neither arrives nor leaves: x₁ swings from side to side for ever.",
    };
    say("descent-reading", `Each step multiplies ${factors.join(" and ")}. ${told[end]}`);
  }

  function moveStart(event) {
    const [right, down] = pointerPlace(get("bowl"), event);
    const round = (share) => Math.round(10 * Math.min(Math.max(HALF * (2 * share - 1), -HALF), HALF)) / 10;
    set(descent.rate, [round(right), round(1 - down)]);
  }

  get("bowl").addEventListener("pointerdown", (event) => {
    get("bowl").setPointerCapture(event.pointerId);
    moveStart(event);
  });
  get("bowl").addEventListener("pointermove", (event) => {
    if (event.buttons) moveStart(event);
  });
  get("descent-deck").addEventListener("click", () => set(0.001, [3, 3]));
  get("descent-fast").addEventListener("click", () => set(0.2));
  get("descent-edge").addEventListener("click", () => set(0.25));
  keepDrawn(draw);
  changed();
}
