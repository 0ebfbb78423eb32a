"use strict";
{
  // A digit drawn by hand, and everything that the net makes of it.
  const data = JSON.parse(document.getElementById("net").textContent);
  const net = data.layers.map(({ kernel, scale, shift }) => ({
    kernel: decode(kernel),
    scale: decode(scale),
    shift: decode(shift),
  }));
  const EXAMPLES = [
    // strokes on a square of 100
    "M50 15 C22 15 22 85 50 85 C78 85 78 15 50 15",
    "M53 15 L48 85",
    "M28 32 C32 10 70 10 68 35 C66 55 35 70 28 84 L74 82",
    "M30 22 C48 8 72 20 66 36 C62 46 50 48 44 48 C60 47 76 56 70 72 C62 92 36 88 28 78",
    "M36 15 L28 52 L74 50 M60 30 L58 88",
    "M70 16 L38 17 L34 46 C52 38 74 48 70 66 C66 88 38 88 28 78",
    "M62 14 C40 28 28 50 30 68 C34 90 68 88 68 68 C66 50 40 50 31 66",
    "M26 20 L72 18 C62 40 52 60 46 86",
    "M62 24 C44 8 26 26 44 42 C58 52 74 62 62 78 C48 92 28 78 36 62 C46 50 68 42 62 24",
    "M66 34 C60 12 32 14 32 36 C34 54 62 54 66 34 C66 54 62 72 56 87",
  ];
  const PEN = 21; // pixels, on a paper of 280: as thick as MNIST's strokes once the digit is 20 pixels high
  const drawLayers = addLayers(net);
  const paper = document.getElementById("paper");
  const ink = paper.getContext("2d", { willReadFrequently: true });
  let source = paper; // what the net reads: the paper, or an opened picture in full size
  let untouched = true; // the next stroke begins a new drawing
  let seen = null; // what the net has made of it; null on an empty paper
  let clouds = null; // the values of the map of reasons
  let waiting = null;

  function clearPaper() {
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.fillStyle = "#fff";
    ink.fillRect(0, 0, paper.width, paper.height);
    ink.lineWidth = PEN;
    ink.lineCap = ink.lineJoin = "round";
    ink.strokeStyle = "#000";
    paper.classList.remove("photo");
    [source, untouched] = [paper, false];
  }

  function drawLine(from, to) {
    if (untouched) clearPaper();
    ink.beginPath();
    ink.moveTo(...from);
    ink.lineTo(...to);
    ink.stroke();
    changed();
  }

  function drawExample(digit) {
    clearPaper();
    ink.setTransform(2.8, 0, 0, 2.8, 0, 0);
    ink.lineWidth = PEN / 2.8;
    ink.stroke(new Path2D(EXAMPLES[digit]));
    clearTransform();
    changed();
  }

  function clearTransform() {
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.lineWidth = PEN;
    untouched = true;
  }

  /** A picture file: the net reads it in full size, up to 800 pixels; the paper shows it. */
  async function openPicture(file) {
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      say("reading", `${file.name} is no picture that can be read.`);
      return;
    }
    const shrink = Math.min(1, 800 / Math.max(picture.width, picture.height));
    const canvas = element("canvas", {
      width: Math.round(picture.width * shrink),
      height: Math.round(picture.height * shrink),
    });
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // transparency is white
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    clearPaper();
    const fit = paper.width / Math.max(canvas.width, canvas.height);
    const [width, height] = [canvas.width * fit, canvas.height * fit];
    ink.drawImage(canvas, (paper.width - width) / 2, (paper.height - height) / 2, width, height);
    paper.classList.add("photo");
    [source, untouched] = [canvas, true];
    changed();
  }

  /** Reads once before the next frame, however often the pen has moved. */
  function changed() {
    if (!changed.asked)
      changed.asked = requestAnimationFrame(() => {
        changed.asked = null;
        read();
      });
  }

  function read() {
    const pixels = likeMnist(readGrey(source));
    seen = pixels && readDigit(net, pixels);
    clearTimeout(waiting);
    findReasons();
    drawAllOfIt();
    say("reading", sentence());
  }

  function percent(share) {
    return `${(100 * share).toFixed(1)} %`;
  }

  function sentence() {
    if (!seen) return "An empty paper: draw a digit.";
    const order = seen.probabilities.map((_, k) => k).sort((a, b) => seen.probabilities[b] - seen.probabilities[a]);
    const [first, second] = order.slice(0, 2).map((k) => `${k} (${percent(seen.probabilities[k])})`);
    return `The net reads ${first}; next comes ${second}.`;
  }

  function findReasons() {
    const byOcclusion = chosen("reason") === "occlusion";
    clouds = seen && (byOcclusion ? new Float32Array(FIELD * FIELD) : inkTimesGradient(net, seen));
    document.getElementById("reason-note").textContent = byOcclusion
      ? "A black square of 7×7 hides each place in turn. Orange: without it the answer is less sure; blue: surer."
      : "Each pixel's ink times the gradient of the answer's log-probability: orange speaks for it, blue against it.";
    if (!seen || !byOcclusion) return;
    const rows = occlusion(net, seen);
    const goOn = () => {
      const { value, done } = rows.next();
      if (done) return;
      clouds = value;
      drawReason();
      waiting = setTimeout(goOn, 0);
    };
    waiting = setTimeout(goOn, 150); // when the pen has come to rest
  }

  const empty = { height: FIELD, width: FIELD, values: new Float32Array(FIELD * FIELD) };

  function drawSquare(id, picture, colourOf) {
    const { ctx, width, height } = begin(document.getElementById(id));
    drawGrid(ctx, picture, colourOf, [0, 0, width, height]);
  }

  function drawReason() {
    const values = clouds ?? empty.values;
    const most = spread(values);
    const pixels = seen ? seen.pixels : empty.values;
    const muted = rgb("muted");
    const colourOf = (i) =>
      blend(diverging(values[i] / most), muted, 0.35 * (pixels[i] / 255) * (1 - Math.abs(values[i]) / most));
    drawSquare("reason", { ...empty, values: values.map((_, i) => i) }, colourOf);
  }

  function drawProbabilities() {
    document.querySelectorAll("#probabilities li").forEach((row, k) => {
      const share = seen ? seen.probabilities[k] : 0;
      row.classList.toggle("best", Boolean(seen) && k === seen.best);
      row.querySelector("i").style.width = `${100 * share}%`;
      row.querySelector(".share").textContent = seen ? percent(share) : "";
    });
  }

  function drawAllOfIt() {
    drawSquare("sees", seen ? { ...empty, values: seen.pixels } : empty, (value) => inkColour(value / 255));
    drawReason();
    drawProbabilities();
    drawLayers(seen);
  }

  // The pen, by pointer and by keys.

  const onPaper = (event) => pointerPlace(paper, event).map((share) => share * paper.width);
  let last = null;
  paper.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    paper.focus({ focusVisible: false, preventScroll: true });
    paper.setPointerCapture(event.pointerId);
    last = onPaper(event);
    drawLine(last, last);
  });
  paper.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      const next = onPaper(part);
      drawLine(last, next);
      last = next;
    }
  });
  for (const name of ["pointerup", "pointercancel"])
    paper.addEventListener(name, () => {
      last = null;
    });

  const pen = { at: [140, 60], down: false };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function showPen() {
    const mark = document.getElementById("pen");
    mark.classList.toggle("down", pen.down);
    [mark.style.left, mark.style.top] = pen.at.map((value) => `${(100 * value) / paper.width}%`);
  }

  paper.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (arrow) {
      const next = pen.at.map((value, i) => Math.min(Math.max(value + 10 * arrow[i], 20), 260));
      if (pen.down) drawLine(pen.at, next);
      pen.at = next;
    } else if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) drawLine(pen.at, pen.at);
    } else {
      return;
    }
    event.preventDefault();
    showPen();
  });

  document.getElementById("clear").addEventListener("click", () => {
    clearPaper();
    changed();
  });
  document.getElementById("picture").addEventListener("change", ({ target }) => {
    if (target.files.length) openPicture(target.files[0]);
    target.value = ""; // so that the same file can be opened again
  });
  onChoice("reason", () => {
    if (seen) read();
    else findReasons();
  });
  EXAMPLES.forEach((_, digit) => {
    const button = element("button", { type: "button", "aria-label": `Draw a ${digit}` }, `${digit}`);
    button.addEventListener("click", () => drawExample(digit));
    document.getElementById("examples").append(button);
    document
      .getElementById("probabilities")
      .append(
        element(
          "li",
          {},
          element("span", {}, `${digit}`),
          element("span", { class: "bar" }, element("i")),
          element("span", { class: "share" }),
        ),
      );
  });
  document.getElementById("facts").textContent =
    `The net has ${data.num_weights.toLocaleString("en")} weights of 16 bits and reads ${percent(data.accuracy)} of` +
    ` ${data.num_images.toLocaleString("en")} validation images right. Where it is wrong, see what it saw.`;
  document.getElementById("doubt").textContent =
    data.label_smoothing &&
    `It was trained never to be too sure: ${percent(data.label_smoothing)}` +
      " of each label's probability was spread over all digits.";
  showPen();
  keepDrawn(drawAllOfIt);
  drawExample(3);
}
