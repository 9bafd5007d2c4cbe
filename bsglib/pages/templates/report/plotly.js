// Draws the page's interactive figures in the inks of the page, and again when the theme changes.
// Scenes in space share one camera, also moved by keys, and stand above each other on a phone.
addEventListener("DOMContentLoaded", async () => {
  await plotly;
  const none = "rgba(0,0,0,0)";
  const dark = matchMedia("(prefers-color-scheme: dark)"), phone = matchMedia("(max-width: 40rem)");

  const stack = (layout, scenes) => {
    const bottom = i => (scenes.length - 1 - i) / scenes.length, share = 0.93 / scenes.length;
    scenes.forEach((key, i) => {
      layout[key].domain = {x: [0, 1], y: [bottom(i), bottom(i) + share]};
    });
    layout.annotations = (layout.annotations ?? []).map(note => {
      const i = scenes.indexOf(note.name);
      return i < 0 ? note : {...note, x: 0, y: bottom(i) + share};
    });
    layout.height *= 0.75 * scenes.length;
  };

  // compared by number, so that what the drawing rounds or fills in is not copied to and fro
  const same = (one, two) => ["eye", "center", "up"].every(part => !one?.[part] || !two?.[part]
    || ["x", "y", "z"].every(i => Math.abs(one[part][i] - two[part][i]) < 1e-6));

  const link = (plot, scenes) => {
    const copy = change => {
      const moved = scenes.find(key => change[`${key}.camera`]), camera = change[`${moved}.camera`];
      const behind = moved ? scenes.filter(key => !same(plot.layout[key].camera, camera)) : [];
      if (!behind.length) return;
      Plotly.relayout(plot, Object.fromEntries(behind.map(key => [`${key}.camera`, structuredClone(camera)])));
    };
    plot.on("plotly_relayouting", copy);
    plot.on("plotly_relayout", copy);
  };

  const steer = (plot, scenes, first) => {
    const turns = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};
    const zooms = {"+": 0.9, "=": 0.9, "-": 1 / 0.9};
    plot.tabIndex = 0;
    plot.setAttribute("role", "application"); // so that a screen reader hands over the arrow keys
    plot.setAttribute("aria-label", "Surfaces in space: arrow keys turn, plus and minus come closer and go back, 0 returns");
    plot.addEventListener("keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const camera = structuredClone(plot.layout[scenes[0]].camera ?? {}), turn = turns[event.key];
      const {x, y, z} = {x: 1.25, y: 1.25, z: 1.25, ...camera.eye};
      if (turn) {
        const r = Math.hypot(x, y, z), step = Math.PI / 24;
        const around = Math.atan2(y, x) + step * turn[0];
        const up = Math.min(1.5, Math.max(-1.5, Math.asin(z / r) + step * turn[1]));
        camera.eye = {x: r * Math.cos(up) * Math.cos(around), y: r * Math.cos(up) * Math.sin(around), z: r * Math.sin(up)};
      } else if (zooms[event.key]) {
        const f = Math.min(4, Math.max(0.6, Math.hypot(x, y, z) * zooms[event.key])) / Math.hypot(x, y, z);
        camera.eye = {x: f * x, y: f * y, z: f * z};
      } else if (event.key !== "0") return;
      event.preventDefault();
      const change = {};
      for (const key of scenes) change[`${key}.camera`] = structuredClone(event.key === "0" ? first[key] : camera);
      Plotly.relayout(plot, change);
    });
  };

  for (const box of document.querySelectorAll(".plotly-figure")) {
    const json = box.querySelector("script").textContent;
    const {data, layout} = JSON.parse(json);
    const plot = box.querySelector(".plot");
    const scenes = [...new Set(data.filter(t => /3d$|surface$/.test(t.type)).map(t => t.scene ?? "scene"))];
    delete layout.width;
    layout.height ??= parseFloat(plot.style.height);
    for (const key of scenes) layout[key] ??= {};
    const draw = () => {
      const style = getComputedStyle(document.body);
      const ink = style.color, rule = style.getPropertyValue("--rule"), faint = style.getPropertyValue("--ink-2");
      const inked = JSON.parse(json.replaceAll(/#1f2328/gi, ink)).data; // lines in bsglib.style.INK
      const axis = (old = {}) => ({...old, color: ink, gridcolor: rule, zerolinecolor: rule, showbackground: false});
      const themed = {...layout, autosize: true, paper_bgcolor: none, plot_bgcolor: none,
                      font: {...layout.font, color: ink},
                      modebar: {bgcolor: none, color: faint, activecolor: ink}};
      for (const key of new Set([...Object.keys(layout), "xaxis", "yaxis"])) {
        if (/^[xy]axis\d*$/.test(key)) {
          themed[key] = {...layout[key], color: ink, gridcolor: rule, zerolinecolor: rule};
        } else if (/^scene\d*$/.test(key)) {
          themed[key] = {...layout[key], camera: plot.layout?.[key]?.camera ?? layout[key].camera};
          for (const a of ["xaxis", "yaxis", "zaxis"]) themed[key][a] = axis(layout[key][a]);
        }
      }
      if (phone.matches && scenes.length > 1) stack(themed, scenes);
      plot.style.height = `${themed.height}px`;
      // a wheel scrolls the page, as everywhere else on it, and no button sends data away
      const config = {responsive: true, displaylogo: false, scrollZoom: false, showSendToCloud: false,
                      modeBarButtonsToRemove: ["orbitRotation", "tableRotation", "resetCameraLastSave3d"]};
      return Plotly.react(plot, inked, themed, config).then(() => {
        // The box has the figure's name; the tester is where plotly measures text, out of sight.
        for (const svg of document.querySelectorAll(".plotly-figure svg, #js-plotly-tester")) svg.ariaHidden = true;
      });
    };
    const first = Object.fromEntries(scenes.map(key => [key, structuredClone(layout[key].camera ?? {})]));
    draw();
    if (scenes.length) steer(plot, scenes, first);
    if (scenes.length > 1) link(plot, scenes);
    dark.addEventListener("change", draw);
    phone.addEventListener("change", draw);
  }
});
