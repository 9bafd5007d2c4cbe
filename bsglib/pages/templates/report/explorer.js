// Draws each explorer from the JSON beside it. A choice moves a class and the words; only the loss
// surface is drawn anew. Colours are the page's own variables, so a theme needs no redrawing.
addEventListener("DOMContentLoaded", () => {
  const W = 280, H = 204, LEFT = 40, RIGHT = 34, TOP = 8, BOTTOM = 34; // of a panel, in its own units
  const add = (parent, tag, attributes = {}, text = "") => {
    const svg = tag === "svg" || parent.namespaceURI?.endsWith("svg");
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return parent.appendChild(made);
  };
  const logarithmic = ({range: [low, high]}, from, to) =>
    v => from + (to - from) * Math.log(v / low) / Math.log(high / low);
  const linear = (values, from, to) => v => from + (to - from) * (v - values[0]) / (values.at(-1) - values[0]);
  const fixed = v => v.toFixed(1);

  // a line through all points with a value above 0, and a dot where there is only one
  const path = (x, y, xs, ys) => {
    const points = xs.flatMap((v, i) => ys[i] > 0 ? [`${fixed(x(v))} ${fixed(y(ys[i]))}`] : []);
    return points.length === 1 ? `M${points[0]}h.1` : points.length ? `M${points.join("L")}` : "";
  };

  const panel = (parent, letter, title) => {
    const box = add(parent, "div", {class: "panel"});
    add(box, "p", {class: "title"}, `${letter}  ${title}`);
    return add(box, "svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title});
  };

  const axes = (svg, xAxis, yAxis, name) => {
    const x = logarithmic(xAxis, LEFT, W - RIGHT), y = logarithmic(yAxis, H - BOTTOM, TOP);
    add(svg, "path", {class: "axis", d: `M${LEFT} ${TOP}V${H - BOTTOM}H${W - RIGHT}`});
    for (const [v, text] of xAxis.ticks) {
      add(svg, "path", {class: "axis", d: `M${fixed(x(v))} ${H - BOTTOM}v3`});
      add(svg, "text", {x: fixed(x(v)), y: H - BOTTOM + 14, "text-anchor": "middle"}, text);
    }
    for (const [v, text] of yAxis.ticks) {
      add(svg, "path", {class: "axis", d: `M${LEFT} ${fixed(y(v))}h-3`});
      add(svg, "text", {x: LEFT - 6, y: fixed(y(v) + 3.5), "text-anchor": "end"}, text);
    }
    add(svg, "text", {x: (LEFT + W - RIGHT) / 2, y: H - 4, "text-anchor": "middle"}, name);
    const size = {width: W - LEFT, height: H - BOTTOM + 2}; // a loss that explodes leaves it at the top
    const clip = add(svg, "svg", {x: LEFT, y: 0, ...size, viewBox: `${LEFT} 0 ${size.width} ${size.height}`});
    return {x, y, clip};
  };

  const nothing = svg => add(svg, "text", {x: W / 2, y: H / 2, "text-anchor": "middle"}, "not computed yet");

  const curves = (svg, data, part) => {
    if (!data.epochs || !data.losses) return nothing(svg) && [];
    const {x, y, clip} = axes(svg, data.epochs, data.losses, "epoch");
    return data.cells.map(cell => {
      const group = add(clip, "g", {class: "cell", style: `--batch: ${cell.colour}`});
      const {epoch = [], [part]: lines} = cell.curves ?? {};
      for (const seed of lines?.seeds ?? []) add(group, "path", {class: "seed", d: path(x, y, epoch, seed)});
      const mean = lines?.mean ?? [], end = mean.findLastIndex(v => v > 0);
      add(group, "path", {class: "line", d: path(x, y, epoch, mean)});
      if (end < 0) return group;
      const place = {x: fixed(x(epoch[end]) + 6), y: fixed(y(mean[end]) + 3.5)};
      add(group, "text", {class: "end", ...place}, cell.batch_size);
      return group;
    });
  };

  const points = (svg, data, name) => {
    const {axis, labels} = data.measures[name];
    if (!axis) return nothing(svg) && [];
    const {x, y, clip} = axes(svg, data.base_lr, axis, "learning rate");
    for (const size of data.sizes) {
      const line = data.cells.filter(cell => cell.batch_size === size && cell.values[name]);
      const d = path(x, y, line.map(cell => cell.base_lr), line.map(cell => cell.values[name][0]));
      if (d) add(clip, "path", {class: "join", d, style: `--batch: ${line[0].colour}`});
    }
    for (const {text, colour, share} of labels) {
      add(svg, "text", {class: "end", x: W - RIGHT + 9, y: fixed(H - BOTTOM - share * (H - BOTTOM - TOP) + 3.5),
                        style: `--batch: ${colour}`}, text);
    }
    return data.cells.map(cell => {
      const group = add(clip, "g", {class: "cell", style: `--batch: ${cell.colour}`});
      const [mean, low, high] = cell.values[name] ?? [];
      if (!(mean > 0)) return group;
      const cx = fixed(x(cell.base_lr));
      if (low > 0 && high > low) add(group, "path", {class: "bar", d: `M${cx} ${fixed(y(low))}V${fixed(y(high))}`});
      add(group, "circle", {cx, cy: fixed(y(mean)), r: 3});
      return group;
    });
  };

  // where a level crosses the squares of a grid (marching squares), but those with a missing corner
  const contour = (x, y, a, b, z, level) => {
    let d = "";
    for (let j = 0; j + 1 < b.length; j++) for (let i = 0; i + 1 < a.length; i++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], found = [];
      if (corners.some(([p, q]) => z[q][p] === null)) continue;
      corners.forEach(([p, q], k) => {
        const [r, s] = corners[(k + 1) % 4], from = z[q][p] - level, to = z[s][r] - level;
        if ((from < 0) === (to < 0)) return;
        const t = from / (from - to);
        found.push(`${fixed(x(a[p] + t * (a[r] - a[p])))} ${fixed(y(b[q] + t * (b[s] - b[q])))}`);
      });
      for (let k = 0; k < found.length; k += 2) d += `M${found[k]}L${found[k + 1]}`;
    }
    return d;
  };

  const surface = (svg, hint, plane) => {
    if (!plane) return nothing(svg) && (() => {});
    const {a, b, range: [low, high], ramp} = plane, side = H - BOTTOM - TOP, bar = LEFT + side + 16;
    const x = linear(a, LEFT, LEFT + side), y = linear(b, H - BOTTOM, TOP), middle = (low + high) / 2;
    const place = v => Math.floor((v - low) / (high - low) * ramp.length);
    const colour = v => ramp[Math.max(0, Math.min(ramp.length - 1, place(v)))];
    const edges = (values, scale) => values.map((v, i) => [
      scale(i ? (v + values[i - 1]) / 2 : v), scale(i + 1 < values.length ? (v + values[i + 1]) / 2 : v)]);
    const columns = edges(a, x), rows = edges(b, y), map = add(svg, "g", {class: "map"});
    const centre = {"text-anchor": "middle"}, half = {x: LEFT + side / 2, y: TOP + side / 2};
    for (const v of [a[0], 0, a.at(-1)]) add(svg, "text", {x: fixed(x(v)), y: H - BOTTOM + 14, ...centre}, v);
    for (const v of [b[0], 0, b.at(-1)]) add(svg, "text", {x: LEFT - 6, y: fixed(y(v) + 3.5), "text-anchor": "end"}, v);
    add(svg, "text", {x: half.x, y: H - 4, ...centre}, "a, first direction");
    add(svg, "text", {x: 8, y: half.y, ...centre, transform: `rotate(-90 8 ${half.y})`}, "b, second direction");
    const height = v => H - BOTTOM - side * (v - low) / (high - low), step = (high - low) / ramp.length;
    const scale = add(svg, "g", {class: "scale"});
    ramp.forEach((fill, i) => add(scale, "rect", {x: bar, y: fixed(height(low + (i + 1) * step)), width: 9,
                                                  height: fixed(side / ramp.length + .4), fill}));
    const line = (parent, level, d) => add(parent, "path", {class: level < middle ? "contour pale" : "contour", d});
    for (const [v, text] of plane.ticks) {
      add(svg, "text", {x: bar + 13, y: fixed(height(v) + 3.5)}, text);
      line(scale, v, `M${bar} ${fixed(height(v))}h9`);
    }

    let shown = null;
    const rest = "Point at the surface for its loss; a cross marks the weights themselves.";
    const nearest = (values, scale, at) => values.reduce((best, v, i) =>
      Math.abs(scale(v) - at) < Math.abs(scale(values[best]) - at) ? i : best, 0);
    const say = () => { hint.textContent = shown ? rest : ""; };
    map.addEventListener("pointermove", event => {
      if (!shown) return;
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const i = nearest(a, x, at.x), j = nearest(b, y, at.y), v = shown[j][i], short = n => +n.toPrecision(3);
      const loss = v === null ? "missing" : `loss ${short(10 ** v)}`;
      hint.textContent = `a = ${short(a[i])}, b = ${short(b[j])}: ${loss}`;
    });
    map.addEventListener("pointerleave", say);

    return cell => {
      map.replaceChildren();
      shown = cell.surface;
      say();
      if (!shown) {
        add(map, "rect", {class: "empty", x: LEFT, y: TOP, width: side, height: side});
        add(map, "text", {...half, ...centre}, cell.diverged ? "training diverged" : "not computed yet");
        return;
      }
      rows.forEach(([bottom, top], j) => columns.forEach(([left, right], i) => {
        const v = shown[j][i], box = {width: fixed(right - left), height: fixed(bottom - top)};
        if (v !== null) add(map, "rect", {x: fixed(left), y: fixed(top), ...box, fill: colour(v), stroke: colour(v)});
        else add(map, "path", {class: "missing", d: `M${fixed(left)} ${fixed(bottom)}l${box.width} -${box.height}`});
      }));
      for (const [level] of plane.ticks) line(map, level, contour(x, y, a, b, shown, level));
      add(map, "path", {class: "weights", d: `M${x(0) - 4} ${y(0) - 4}l8 8m0 -8l-8 8`});
    };
  };

  // the map of the validation loss, whose cells are radio buttons; arrow keys go where they point
  const choices = (parent, data, number, choose) => {
    const box = add(parent, "div", {class: "panel"});
    add(box, "p", {class: "title"}, "a  choose: validation loss (nats)");
    const grid = add(box, "div", {class: "choices", role: "radiogroup", "aria-label": "Batch size and learning rate",
                                  style: `--columns: ${data.sizes.length}`});
    add(grid, "span", {class: "corner", "aria-hidden": true}, "rate \\ B");
    const colours = new Map(data.cells.map(cell => [cell.batch_size, cell.colour]));
    for (const size of data.sizes) {
      add(grid, "span", {class: "size", "aria-hidden": true, style: `--batch: ${colours.get(size)}`}, size);
    }
    const buttons = data.rates.map(rate => {
      add(grid, "span", {class: "rate", "aria-hidden": true}, rate);
      return data.sizes.map(size => {
        const i = data.cells.findIndex(cell => cell.batch_size === size && cell.base_lr === rate);
        if (i < 0) return add(grid, "span") && null;
        const cell = data.cells[i];
        const [fill, ink] = cell.shade ?? [], value = cell.values.validation_loss?.[0];
        const text = cell.diverged ? "div." : value == null ? "–" : value.toPrecision(3);
        const button = add(grid, "label", fill ? {style: `background: ${fill}; color: ${ink}`} : {}, text);
        const input = add(button, "input", {type: "radio", name: `explorer-${number}`, "aria-label": cell.name});
        input.addEventListener("change", () => choose(i));
        input.checked = i === data.start;
        return input;
      });
    });
    const steps = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
    grid.addEventListener("keydown", event => {
      const step = steps[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault(); // else the browser goes on in one long row
      let row = buttons.findIndex(inputs => inputs.includes(event.target));
      let column = buttons[row].indexOf(event.target);
      do { row += step[0]; column += step[1]; } while (buttons[row]?.[column] === null);
      const next = buttons[row]?.[column];
      if (next) next.focus(), next.click();
    });
  };

  document.querySelectorAll(".explorer").forEach((box, number) => {
    const data = JSON.parse(box.querySelector("script").textContent), table = box.querySelector("details");
    table.open = false;
    const view = document.createElement("div");
    box.insertBefore(view, table);
    const words = add(view, "p", {class: "words", "aria-live": "polite"}), panels = add(view, "div", {class: "panels"});
    const letters = [..."bcdefgh"], drawn = [];
    choices(panels, data, number, i => choose(i));
    for (const [part, title] of Object.entries(data.parts)) {
      const svg = panel(panels, letters.shift(), title);
      drawn.push({svg, title, name: part, groups: curves(svg, data, part)});
    }
    for (const [name, {title}] of Object.entries(data.measures)) {
      const svg = panel(panels, letters.shift(), title);
      drawn.push({svg, title, name, groups: points(svg, data, name)});
    }
    const title = "loss surface (nats)", svg = panel(panels, letters.shift(), title);
    const paint = surface(svg, add(svg.parentElement, "div", {class: "hint"}), data.plane);

    const choose = i => {
      const cell = data.cells[i];
      words.replaceChildren();
      add(words, "b", {}, cell.name);
      words.append(`: ${cell.words}.`);
      for (const {svg, title, name, groups} of drawn) {
        svg.setAttribute("aria-label", `${title} of all cells, ${cell.name} in front: ${cell.said[name]}`);
        groups.forEach((group, j) => group.classList.toggle("chosen", i === j));
        groups[i]?.parentElement.append(groups[i]); // in front of the others
      }
      svg.setAttribute("aria-label", `${title} around ${cell.name}: ${cell.said.surface}`);
      paint(cell);
    };
    choose(data.start);
  });
});
