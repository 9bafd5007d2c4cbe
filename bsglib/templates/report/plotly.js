// Draws the page's interactive figures in the inks of the page, and again when the theme changes.
addEventListener("DOMContentLoaded", () => {
  const none = "rgba(0,0,0,0)";
  for (const box of document.querySelectorAll(".plotly-figure")) {
    const {data, layout} = JSON.parse(box.querySelector("script").textContent);
    delete layout.width;
    const draw = () => {
      const style = getComputedStyle(document.body);
      const ink = style.color, rule = style.getPropertyValue("--rule");
      const axis = (old = {}) => ({...old, color: ink, gridcolor: rule, zerolinecolor: rule, showbackground: false});
      const themed = {...layout, autosize: true, paper_bgcolor: none, plot_bgcolor: none,
                      font: {...layout.font, color: ink}};
      for (const key of new Set([...Object.keys(layout), "xaxis", "yaxis"])) {
        if (/^[xy]axis\d*$/.test(key)) {
          themed[key] = {...layout[key], color: ink, gridcolor: rule, zerolinecolor: rule};
        } else if (/^scene\d*$/.test(key)) {
          themed[key] = {...layout[key]};
          for (const a of ["xaxis", "yaxis", "zaxis"]) themed[key][a] = axis(layout[key][a]);
        }
      }
      Plotly.react(box.querySelector(".plot"), data, themed, {responsive: true, displaylogo: false}).then(() => {
        // The box has the figure's name; the tester is where plotly measures text, out of sight.
        for (const svg of document.querySelectorAll(".plotly-figure svg, #js-plotly-tester")) svg.ariaHidden = true;
      });
    };
    draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }
});
