(function () {
  var panels = Array.prototype.slice.call(document.querySelectorAll('[data-chart]'));
  var dark = window.matchMedia('(prefers-color-scheme: dark)');
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }
  function draw(charts) {
    panels.forEach(function (panel) {
      // A copy, because Plotly changes what it draws.
      var figure = JSON.parse(JSON.stringify(charts[panel.dataset.chart]));
      var layout = figure.layout;
      layout.paper_bgcolor = 'rgba(0,0,0,0)';
      layout.plot_bgcolor = 'rgba(0,0,0,0)';
      layout.font = { color: colour('--text'), size: 12, family: getComputedStyle(document.body).fontFamily };
      layout.hoverlabel = { bgcolor: colour('--panel'), bordercolor: colour('--line'),
        font: { color: colour('--text') }, align: 'left' };
      figure.data.forEach(function (trace) {
        if (trace.type === 'heatmap') { trace.textfont = { color: colour('--text') }; }
      });
      Object.keys(layout).forEach(function (key) {
        if (/^[xy]axis/.test(key)) {
          layout[key].gridcolor = layout[key].gridcolor || colour('--line');
          layout[key].zerolinecolor = colour('--line');
          layout[key].linecolor = colour('--line');
        }
      });
      Plotly.react(panel, figure.data, layout,
        { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false });
    });
  }
  function unpack(id) {
    var text = document.getElementById(id).textContent;
    var bytes = Uint8Array.from(atob(text), function (one) { return one.charCodeAt(0); });
    var plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Response(plain).text();
  }
  function start(parts) {
    var script = document.createElement('script'), charts = JSON.parse(parts[1]);
    script.textContent = parts[0];
    document.head.appendChild(script);
    draw(charts);
    dark.addEventListener('change', function () { draw(charts); });
  }
  function explain() {
    panels.forEach(function (panel) {
      panel.textContent = 'Charts need a browser of 2023 or later;'
        + ' the Markdown file next to this page has pictures of them.';
    });
  }
  if (typeof DecompressionStream === 'undefined') {
    explain();
  } else {
    Promise.all([unpack('plotly'), unpack('charts')]).then(start);
  }
})();
