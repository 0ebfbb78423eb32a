"use strict";
// What each layer of the net makes of a digit: its kernels, its maps, one of them in large, and the dense layer.

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

/** A convolution with all its maps, and one of them in large: a function that draws what it has `seen`. */
function addConvolution({ kernel }, index) {
  const [rows, columns, inputs, outputs] = kernel.shape;
  const ordinal = `Convolution ${index + 1}`;
  const maps = element("canvas", {
    id: `maps-${index + 1}`,
    class: "maps",
    role: "img",
    "aria-label": `${ordinal}: kernels and their maps`,
  });
  const names = ["goes in", "the kernel", "slid over what goes in", "largest of 2×2, normalised, ReLU"];
  const large = names.map((name, i) => [
    element("canvas", { id: `one-${index + 1}-${i + 1}`, class: "square", role: "img", "aria-label": name }),
    name,
  ]);
  const one = element(
    "div",
    { class: "one" },
    ...large.map(([canvas, name]) => element("figure", {}, canvas, element("figcaption", {}, name))),
  );
  const [over, light] = index ? [`, each over all ${inputs} maps of convolution ${index}`, "light"] : ["", "ink"];
  const text =
    `${outputs} kernels of ${rows}×${columns}${over}. In each column: the kernel, orange where ${light} excites it` +
    ` and blue where ${light} silences it; its map; and what goes on to the next layer.`;
  const box = element("div", { class: "layer" }, element("h3", {}, ordinal), element("p", {}, text), maps);
  let [k, seen] = [0, null];
  const slider = addSlider(
    box,
    {
      id: `kernel-${index + 1}`,
      label: "Kernel",
      min: 1,
      max: outputs,
      step: 1,
      value: 1,
      show: (v) => `${v}`,
    },
    (value) => {
      k = value - 1;
      draw();
    },
  );
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
    if (picked < outputs) {
      k = picked;
      slider.set(k + 1);
      draw();
    }
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

  return (now) => {
    seen = now;
    draw();
  };
}

/** The dense layer's neurons in rows: a function that draws what they have `seen`. */
function addDense(numNeurons) {
  const canvas = element("canvas", {
    id: "dense",
    role: "img",
    "aria-label": "The neurons of the dense layer, light where active",
  });
  const text = `${numNeurons} neurons, each over all that the last maps show: light where it answers.`;
  const title = element("h3", {}, "Dense layer");
  document.getElementById("layers").append(element("div", { class: "layer" }, title, element("p", {}, text), canvas));
  const width = Math.min(numNeurons, 64);
  const height = Math.ceil(numNeurons / width);
  return (seen) => {
    canvas.style.height = `${Math.max(12, (canvas.clientWidth * height) / width)}px`;
    const values = new Float32Array(width * height);
    if (seen) values.set(seen.hidden);
    const { ctx, width: w, height: h } = begin(canvas);
    drawGrid(ctx, { height, width, values }, grey(spread(values)), [0, 0, w, h]);
  };
}

/** All layers of a net: a function that draws what they have `seen`, null where that is nothing. */
function addLayers(net) {
  const views = [...net.slice(0, -2).map(addConvolution), addDense(net.at(-2).shift.values.length)];
  return (seen) => views.forEach((draw) => draw(seen));
}
