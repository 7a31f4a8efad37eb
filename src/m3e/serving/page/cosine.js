// Cosines of vectors, and the scale that colours and bars share.

function cosines(left, right) {
  const units = right.map(unit);
  return left.map(unit).map((row) => units.map((column) => dot(row, column)));
}

function unit(vector) {
  const wide = Float64Array.from(vector);
  const norm = Math.sqrt(dot(wide, wide)) || 1;
  return wide.map((value) => value / norm);
}

function dot(left, right) {
  let sum = 0;
  for (let place = 0; place < left.length; place++) sum += left[place] * right[place];
  return sum;
}

// Many models give every pair a cosine above 0.7: the scale starts just below the lowest, and the legend says where.
function scaleOf(values) {
  const lowest = values.reduce((least, value) => Math.min(least, value), 1);
  const low = Math.min(0.9, Math.floor(lowest * 10 + 1e-9) / 10);
  return { low, high: 1, place: (value) => Math.min(1, Math.max(0, (value - low) / (1 - low))) };
}

function legendValues({ low, high }) {
  return { low: figure(low, 1), high: figure(high, 1) };
}

function figure(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text; // never "-0.00"
}
