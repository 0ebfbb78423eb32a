"use strict";
// Functions of x₁ and x₂: as a surface over its floor, and seen from above.

const NUM_POINTS = 45; // along each axis
const FLOOR = -0.42; // where it lies, as heights of a surface run from 0 to 1

/** The values of f on [-half, half]², x₁ to the right, the lowest x₂ first. */
function sample(f, half, numPoints = NUM_POINTS) {
  const at = (i) => half * ((2 * i) / (numPoints - 1) - 1);
  const values = Float64Array.from({ length: numPoints ** 2 }, (_, i) =>
    f(at(i % numPoints), at(Math.floor(i / numPoints))),
  );
  return { height: numPoints, width: numPoints, values, half };
}

/** Values from above: orange over the level, blue under it, the boundary where they are equal, and an arrow. */
function drawFromAbove(canvas, grid, { level = 0, arrow = null, most = null, axes = true }) {
  const { ctx, width, height } = begin(canvas);
  const margin = axes ? 24 : 0;
  const [w, h] = [width - margin, height - margin];
  const scale = most ?? spread(grid.values.map((value) => value - level));
  drawGrid(ctx, grid, (value) => diverging((value - level) / scale), [margin, 0, w, h], { smooth: true, flip: true });
  const last = NUM_POINTS - 1;
  const place = (column, row) => [margin + (w * column) / last, h * (1 - row / last)];
  ctx.save();
  ctx.beginPath();
  ctx.rect(margin, 0, w, h);
  ctx.clip();
  ctx.lineWidth = 1;
  ctx.strokeStyle = css("ink", 0.18);
  for (let i = -4; i <= 4; i++) if (i) strokeLines(ctx, levelLines(grid, level + (i * scale) / 5), place);
  ctx.lineWidth = axes ? 2.5 : 1.5;
  ctx.strokeStyle = css("ink");
  strokeLines(ctx, levelLines(grid, level), place);
  const at = (x) => (last * (x / grid.half + 1)) / 2;
  if (arrow) drawArrow(ctx, place(at(0), at(0)), place(...arrow.map(at)));
  ctx.restore();
  if (axes) drawAxes(ctx, grid.half, margin, w, h);
}

function drawAxes(ctx, half, margin, w, h) {
  ctx.fillStyle = css("muted");
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  for (const [x, name] of [
    [-half, `−${half}`],
    [0, "0"],
    [half, half],
  ]) {
    const along = (x / half + 1) / 2;
    const inside = Math.min(Math.max(along, 0.03), 0.97);
    ctx.fillText(name, margin + w * inside, h + 14);
    ctx.fillText(name, margin - 12, h * (1 - inside));
  }
  ctx.fillText("x₁", margin + 0.75 * w, h + 14);
  ctx.fillText("x₂", margin - 12, 0.25 * h);
}

/** Values as a surface, seen from `turn` degrees; heights run over `range`, and the floor shows the boundary. */
function drawSurface(canvas, grid, { level = 0, arrow = null, turn = -60, range }) {
  const { ctx, width, height } = begin(canvas);
  const size = width / 1.75;
  const [cos, sin] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
  const project = (x, y, z) => {
    // x, y in -½ ... ½, z in 0 ... 1: to the right, up, and away from us
    const [across, away] = [x * cos - y * sin, x * sin + y * cos];
    return [width / 2 + size * across, 0.6 * height - size * (0.42 * away + 0.55 * z), away];
  };
  const last = NUM_POINTS - 1;
  const flat = (i) => i / last - 0.5;
  const high = (value) => (Math.min(Math.max(value, range[0]), range[1]) - range[0]) / (range[1] - range[0]);
  const floor = (column, row) => project(flat(column), flat(row), FLOOR).slice(0, 2);
  const scale = spread(grid.values.map((value) => value - level));
  const colourOf = (value, alpha) =>
    `rgba(${diverging((value - level) / scale)
      .map(Math.round)
      .join(",")},${alpha})`;
  const facets = [];
  const step = 2;
  for (let row = 0; row < last; row += step) {
    for (let column = 0; column < last; column += step) {
      const corners = [
        [0, 0],
        [step, 0],
        [step, step],
        [0, step],
      ].map(([dx, dy]) => [column + dx, row + dy]);
      const heights = corners.map(([x, y]) => grid.values[y * NUM_POINTS + x]);
      const value = heights.reduce((a, b) => a + b) / 4;
      fillPolygon(
        ctx,
        corners.map(([x, y]) => floor(x, y)),
        colourOf(value, 0.45),
      );
      const points = corners.map(([x, y], i) => project(flat(x), flat(y), high(heights[i])));
      facets.push({ points, value, away: points[0][2] + points[2][2] });
    }
  }
  ctx.strokeStyle = css("ink");
  ctx.lineWidth = 2;
  strokeLines(ctx, levelLines(grid, level), floor);
  const at = (x) => (last * (x / grid.half + 1)) / 2;
  if (arrow) drawArrow(ctx, floor(at(0), at(0)), floor(...arrow.map(at)));
  facets.sort((a, b) => b.away - a.away);
  for (const { points, value } of facets) fillPolygon(ctx, points, colourOf(value, 0.85), css("ink", 0.16));
  drawEdges(ctx, project, range);
}

function fillPolygon(ctx, points, fill, stroke = fill) {
  ctx.beginPath();
  points.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  ctx.closePath();
  ctx.fillStyle = fill;
  ctx.fill();
  ctx.strokeStyle = stroke;
  ctx.lineWidth = 0.6;
  ctx.stroke();
}

/** The names of the axes beside the floor, and the heights at its leftmost corner. */
function drawEdges(ctx, project, range) {
  const corners = [
    [-0.5, -0.5],
    [0.5, -0.5],
    [0.5, 0.5],
    [-0.5, 0.5],
  ];
  const left = corners.reduce((a, b) => (project(...b, 0)[0] < project(...a, 0)[0] ? b : a));
  ctx.fillStyle = css("muted");
  ctx.textBaseline = "middle";
  const nearer = (name, a, b) => {
    const [x, y] = project(...a, FLOOR)[2] < project(...b, FLOOR)[2] ? a : b;
    const [px, py] = project(1.2 * x, 1.2 * y, FLOOR);
    ctx.textAlign = px < project(0, 0, 0)[0] ? "right" : "left";
    ctx.fillText(name, px, py + 6);
  };
  nearer("x₁", [0, -0.5], [0, 0.5]);
  nearer("x₂", [-0.5, 0], [0.5, 0]);
  ctx.strokeStyle = css("muted", 0.7);
  ctx.lineWidth = 1;
  strokeLines(ctx, [[...project(...left, 0).slice(0, 2), ...project(...left, 1).slice(0, 2)]], (x, y) => [x, y]);
  ctx.textAlign = "right";
  [0, 1].forEach((z) => {
    const [x, y] = project(...left, z);
    ctx.fillText(number(range[z], 0), x - 6, y);
  });
}
