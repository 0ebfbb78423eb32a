"use strict";
{ // A digit drawn by hand, and everything that the net makes of it.
  const data = JSON.parse(document.getElementById("net").textContent);
  const net = data.layers.map(({ kernel, scale, shift }) => ({
    kernel: decode(kernel), scale: decode(scale), shift: decode(shift),
  }));
  const EXAMPLES = [ // strokes on a square of 100
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
    const canvas = element("canvas", { width: Math.round(picture.width * shrink), height: Math.round(picture.height * shrink) });
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
    if (!changed.asked) changed.asked = requestAnimationFrame(() => { changed.asked = null; read(); });
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
      ? "A black square of 7×7 hides each place in turn: where orange, hiding it makes the answer less sure; where blue, surer."
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
    const colourOf = (i) => blend(diverging(values[i] / most), muted, 0.35 * (pixels[i] / 255) * (1 - Math.abs(values[i]) / most));
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
    views.forEach((view) => view());
    drawHidden();
  }

  // The layers: all maps, and one of them in large.

  /** The weights of one kernel, those for its inputs side by side in a rectangle. */
  function kernelPicture({ shape: [rows, columns, inputs, outputs], values }, k) {
    const across = inputs === 1 ? 1 : Math.ceil(Math.sqrt(1.5 * inputs));
    const [height, width] = [Math.ceil(inputs / across) * rows, across * columns];
    const picture = { height, width, values: new Float32Array(height * width) };
    for (let i = 0; i < inputs * rows * columns; i++) {
      const [c, row, column] = [i % inputs, Math.floor(i / inputs / columns), Math.floor(i / inputs) % columns];
      const place = (Math.floor(c / across) * rows + row) * width + (c % across) * columns + column;
      picture.values[place] = values[i * outputs + k];
    }
    return picture;
  }

  /** All maps of a layer as one picture, side by side. */
  function mosaic({ height, width, channels, values }) {
    if (channels === 1) return { height, width, values };
    const across = Math.ceil(Math.sqrt(1.5 * channels));
    const picture = { height: Math.ceil(channels / across) * height, width: across * width };
    picture.values = new Float32Array(picture.height * picture.width);
    values.forEach((value, i) => {
      const [c, row, column] = [i % channels, Math.floor(i / channels / width), Math.floor(i / channels) % width];
      picture.values[(Math.floor(c / across) * height + row) * picture.width + (c % across) * width + column] = value;
    });
    return picture;
  }

  const signed = (most) => (value) => diverging(value / most);
  const grey = (most) => (value) => inkColour(value / most);

  /** Numbers of any proportions in the middle of a square. */
  function drawTile(ctx, picture, colourOf, x, y, size) {
    const scale = size / Math.max(picture.width, picture.height);
    const [w, h] = [picture.width * scale, picture.height * scale];
    drawGrid(ctx, picture, colourOf, [x + (size - w) / 2, y + (size - h) / 2, w, h]);
    ctx.strokeStyle = css("line");
    ctx.lineWidth = 1;
    ctx.strokeRect(x + (size - w) / 2, y + (size - h) / 2, w, h);
  }

  function addLayer(index) {
    const { kernel } = net[index];
    const [rows, columns, inputs, outputs] = kernel.shape;
    const ordinal = `Convolution ${index + 1}`;
    const maps = element("canvas", { id: `maps-${index + 1}`, class: "maps", role: "img", "aria-label": `${ordinal}: kernels and their maps` });
    const names = ["goes in", "the kernel", "slid over what goes in", "largest of 2×2, normalised, ReLU"];
    const large = names.map((name, i) => [element("canvas", { id: `one-${index + 1}-${i + 1}`, class: "square", role: "img", "aria-label": name }), name]);
    const one = element("div", { class: "one" }, ...large.map(([canvas, name]) =>
      element("figure", {}, canvas, element("figcaption", {}, name))));
    const [over, light] = index ? [`, each over all ${inputs} maps of convolution ${index}`, "light"] : ["", "ink"];
    const text = `${outputs} kernels of ${rows}×${columns}${over}. In each column: the kernel, orange where ${light} excites it`
      + ` and blue where ${light} silences it; its map; and what goes on to the next layer.`;
    const box = element("div", { class: "layer" }, element("h3", {}, ordinal), element("p", {}, text), maps);
    let k = 0;
    const slider = addSlider(box, {
      id: `kernel-${index + 1}`, label: "Kernel", min: 1, max: outputs, step: 1, value: 1, show: (v) => `${v}`,
    }, (value) => { k = value - 1; draw(); });
    box.append(one);
    document.getElementById("layers").append(box);

    function layout() {
      const wide = maps.clientWidth > 560;
      const across = Math.ceil(outputs / (wide ? 2 : 4));
      return { across, cell: maps.clientWidth / across, down: Math.ceil(outputs / across) };
    }

    maps.addEventListener("click", (event) => {
      const [x, y] = pointerPlace(maps, event);
      const { across, down } = layout();
      const picked = Math.floor(y * down) * across + Math.floor(x * across);
      if (picked < outputs) { k = picked; slider.set(k + 1); draw(); }
    });

    function draw() {
      const { across, cell, down } = layout();
      maps.style.height = `${down * (3 * cell + 6)}px`;
      const { ctx } = begin(maps);
      const size = cell - 5;
      const weights = spread(kernel.values);
      const layer = seen?.layers[index];
      const [most, top] = layer ? [spread(layer.convolved.values), spread(layer.active.values)] : [1, 1];
      for (let j = 0; j < outputs; j++) {
        const [x, y] = [(j % across) * cell + 2.5, Math.floor(j / across) * (3 * cell + 6) + 2.5];
        drawTile(ctx, kernelPicture(kernel, j), signed(weights), x, y, size);
        if (layer) {
          drawTile(ctx, channel(layer.convolved, j), signed(most), x, y + cell, size);
          drawTile(ctx, channel(layer.active, j), grey(top), x, y + 2 * cell, size);
        }
        if (j === k) {
          ctx.strokeStyle = css("accent");
          ctx.lineWidth = 2.5;
          ctx.strokeRect(x - 1, y - 1, cell - 3, 3 * cell - 3);
        }
      }
      drawLarge(layer, weights, most, top);
    }

    function drawLarge(layer, weights, most, top) {
      const pictures = [
        layer && [mosaic(layer.inputs), grey(spread(layer.inputs.values))],
        [kernelPicture(kernel, k), signed(weights)],
        layer && [channel(layer.convolved, k), signed(most)],
        layer && [channel(layer.active, k), grey(top)],
      ];
      large.forEach(([canvas], i) => {
        const { ctx, width } = begin(canvas);
        if (pictures[i]) drawTile(ctx, ...pictures[i], 1, 1, width - 2);
      });
    }

    return draw;
  }

  const views = net.slice(0, -2).map((_, index) => addLayer(index));
  const numHidden = net.at(-2).shift.values.length;
  const hiddenCanvas = element("canvas", { id: "dense", role: "img", "aria-label": "The neurons of the dense layer, light where active" });
  document.getElementById("layers").append(element("div", { class: "layer" },
    element("h3", {}, "Dense layer"),
    element("p", {}, `${numHidden} neurons, each over all that the last maps show: light where it answers.`),
    hiddenCanvas));

  function drawHidden() {
    const width = Math.min(numHidden, 64);
    const height = Math.ceil(numHidden / width);
    hiddenCanvas.style.height = `${Math.max(12, hiddenCanvas.clientWidth * height / width)}px`;
    const values = new Float32Array(width * height);
    if (seen) values.set(seen.hidden);
    const { ctx, width: w, height: h } = begin(hiddenCanvas);
    drawGrid(ctx, { height, width, values }, grey(spread(values)), [0, 0, w, h]);
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
  for (const name of ["pointerup", "pointercancel"]) paper.addEventListener(name, () => { last = null; });

  const pen = { at: [140, 60], down: false };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function showPen() {
    const mark = document.getElementById("pen");
    mark.classList.toggle("down", pen.down);
    [mark.style.left, mark.style.top] = pen.at.map((value) => `${100 * value / paper.width}%`);
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

  document.getElementById("clear").addEventListener("click", () => { clearPaper(); changed(); });
  document.getElementById("picture").addEventListener("change", ({ target }) => {
    if (target.files.length) openPicture(target.files[0]);
    target.value = ""; // so that the same file can be opened again
  });
  onChoice("reason", () => { if (seen) read(); else findReasons(); });
  EXAMPLES.forEach((_, digit) => {
    const button = element("button", { type: "button", "aria-label": `Draw a ${digit}` }, `${digit}`);
    button.addEventListener("click", () => drawExample(digit));
    document.getElementById("examples").append(button);
    document.getElementById("probabilities").append(element("li", {},
      element("span", {}, `${digit}`), element("span", { class: "bar" }, element("i")), element("span", { class: "share" })));
  });
  document.getElementById("facts").textContent =
    `The net has ${data.num_weights.toLocaleString("en")} weights, here in 16 bits each, and reads ${percent(data.accuracy)} of`
    + ` ${data.num_images.toLocaleString("en")} validation images right. Where it is wrong, see what it saw.`;
  document.getElementById("doubt").textContent = data.label_smoothing && `It was trained never to be too sure: ${percent(data.label_smoothing)}`
    + " of each label's probability was spread over all digits.";
  showPen();
  keepDrawn(drawAllOfIt);
  drawExample(3);
}
