"use strict";
// The page of a check: everything is drawn from the JSON in #data; nothing is fetched.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const VERDICTS = ["accelerated", "fallback", "stranded", "undecided"];
const MARKS = { accelerated: "✔", fallback: "✘", stranded: "▲", undecided: "?", partial: "▲", cpu: "✘", failed: "!" };
const NODE = { width: 150, height: 26, down: 46, across: 172 };
const $ = (id) => document.getElementById(id);
const esc = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const many = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const state = { report: null, ops: [], shown: [], chosen: null, sort: ["index", 1], off: new Set(), at: [], view: null };

function quantity(number, unit) {
  for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (number >= 0.9995 * factor) return `${(number / factor).toPrecision(3)} ${prefix}${unit}`;
  return `${number} ${unit}`;
}
function share(part, whole) {
  const percent = whole ? (100 * part) / whole : 0;
  if (part && percent < 0.1) return "< 0.1 %";
  if (part !== whole && percent > 99.9) return "> 99.9 %";
  return `${percent && percent < 9.95 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

function unpack(report) {
  const { columns } = report, s = data.strings;
  return columns.op.map((op, index) => ({
    index, op: s[op], verdict: VERDICTS[columns.verdict[index]], macs: columns.macs[index], bytes: columns.bytes[index],
    reasons: columns.reasons[index].map((r) => data.reasons[r]), origin: data.origins[columns.origin[index]],
    partition: columns.partition[index], reads: columns.reads[index], makes: columns.makes[index].map((m) => s[m]),
    name: s[columns.name[index]], version: columns.version[index],
  }));
}
const place = (op) => op.origin.sources.at(-1) || op.origin.modules.at(-1) || op.origin.nodes.at(-1) || op.name;
const why = (op) => (op.verdict === "stranded" || !op.reasons.length ? data.unruled[op.verdict] : op.reasons[0].message);

function outcome() {
  const done = data.reports.length;
  $("outcome").innerHTML = `<b class="${data.passed ? "accelerated" : "failed"}">${data.passed ? "✔ passed" : "✘ failed"}</b>
    &nbsp;${many(data.models.length, "model")}, ${many(data.targets.length, "target")}${data.failures.length ? `, ${many(data.failures.length, "failure")}` : ""}`;
  if (data.failures.length) {
    $("failures").hidden = false;
    $("failures").innerHTML = "<h3>Not checked</h3>" + data.failures.map((f) => `<p><b>${esc(f.model)}</b>${f.target ? ` on ${esc(f.target)}` : ""}<br>
      <span class="failed">${esc(f.message)}</span>${f.help ? `<br><span class="soft">${esc(f.help)}</span>` : ""}</p>`).join("");
  }
  if (done + data.failures.length < 2) return;
  const at = new Map(data.reports.map((r, i) => [`${r.model} ${r.target}`, i]));
  const cell = (m, t) => {
    const i = at.get(`${m} ${t}`);
    if (i === undefined) return `<td class="failed">${data.failures.some((f) => f.model === data.models[m].path) ? "&ensp;! error" : ""}</td>`;
    const { kind, text } = data.reports[i].cell;
    return `<td class="${kind}"><button type="button" data-report="${i}" aria-pressed="false">${MARKS[kind]} ${esc(text)}</button></td>`;
  };
  const tall = data.targets.length > data.models.length; // the longer side goes down
  const named = (scope) => (entry) => `<th scope="${scope}" title="${esc(entry.path || entry.title)}">${esc(entry.name)}</th>`;
  const [down, across] = tall ? [data.targets, data.models] : [data.models, data.targets];
  const lines = down.map((entry, d) => `<tr>${named("row")(entry)}${across.map((_, a) => (tall ? cell(a, d) : cell(d, a))).join("")}</tr>`);
  $("matrix").hidden = false;
  $("matrix").innerHTML = `<table><thead><tr><th></th>${across.map(named("col")).join("")}</tr></thead><tbody>${lines.join("")}</tbody></table>`;
  $("matrix").addEventListener("click", (event) => { const b = event.target.closest("button"); if (b) select(+b.dataset.report); });
}

function select(number) {
  const report = data.reports[number];
  Object.assign(state, { report, ops: unpack(report), chosen: null, off: new Set(), at: [] });
  for (const b of $("matrix").querySelectorAll("button")) b.setAttribute("aria-pressed", +b.dataset.report === number);
  $("report").hidden = false;
  $("search").value = "";
  summary();
  causes();
  layout();
  verdictButtons();
  filter();
  details(null);
  fit(true);
}

function summary() {
  const { report, ops } = state, target = data.targets[report.target];
  const left = ops.filter((op) => op.verdict !== "accelerated");
  const macs = ops.reduce((sum, op) => sum + op.macs, 0), off = left.reduce((sum, op) => sum + op.macs, 0);
  $("subject").innerHTML = `${esc(data.models[report.model].name)} <small>on ${esc(target.name)}${target.title ? `, ${esc(target.title)}` : ""}</small>`;
  $("headline").textContent = report.headline + (target.confidence ? `. Confidence of the rules: ${target.confidence}.` : ".");
  const figures = [
    [`On ${target.accelerator}`, (ops.length - left.length).toLocaleString("en"), `of ${many(ops.length, "operator")}`],
    ["Compute", macs ? share(macs - off, macs) : "none", macs ? `of ${quantity(macs, "MAC")}` : ""],
    ["Partitions", report.transfers.partitions, ""],
    ["Crossing", quantity(report.transfers.bytes, "B"), `in ${many(report.transfers.tensors, "tensor")} an inference`],
    ...report.figures,
  ];
  $("figures").innerHTML = figures.map(([name, value, note]) => `<div><dt>${esc(name)}</dt><dd>${esc(value)} <small>${esc(note)}</small></dd></div>`).join("");
  const weight = (op) => (macs ? op.macs : 1);
  $("split").innerHTML = VERDICTS.map((v) => [v, ops.filter((op) => op.verdict === v).reduce((sum, op) => sum + weight(op), 0)])
    .filter(([, w]) => w).map(([v, w]) => `<i class="${v}" style="flex:${w}" title="${v}"></i>`).join("");
  $("split").setAttribute("aria-label", `${share(macs - off, macs)} of MACs on ${target.accelerator}`);
  const broken = report.breaches.map((b) => `<li>${esc(b.message)} <span class="soft">${esc(b.limit)}</span></li>`).join("");
  $("breaches").innerHTML = broken && `<summary>✘ ${many(report.breaches.length, "finding")} beyond the limits</summary><ul>${broken}</ul>`;
  $("breaches").open = report.breaches.length < 4;
}

function causes() {
  const { report, ops } = state, total = ops.reduce((sum, op) => sum + op.macs, 0), moved = ops.reduce((sum, op) => sum + op.bytes, 0);
  const rows = report.causes.map((cause, number) => {
    const first = ops[cause.ops[0]], members = cause.ops.map((i) => ops[i]);
    const macs = members.reduce((sum, op) => sum + op.macs, 0), bytes = members.reduce((sum, op) => sum + op.bytes, 0);
    const part = macs ? macs / total : bytes / (moved || 1);
    return `<tr data-cause="${number}"><td><b class="mono ${first.verdict}">${MARKS[first.verdict]} ${esc(first.op)}</b> ×${cause.ops.length}</td>
      <td>${esc(cause.why)}<br><code class="soft">${esc([...new Set(first.reasons.map((r) => r.rule))].join(", "))}</code></td>
      <td class="${first.verdict}">${macs ? `${quantity(macs, "MAC")}, ${share(macs, total)}` : `${quantity(bytes, "B")} moved`}<span class="bar"><i style="width:${100 * part}%"></i></span></td>
      <td>${cause.fixes.map((f) => `<code class="cure">${esc(f)}</code>`).join("") || '<span class="soft">no cure known</span>'}</td>
      <td class="mono soft">${esc([...new Set(members.map(place))].slice(0, 2).join("\n"))}</td></tr>`;
  });
  $("causes").innerHTML = rows.length ? `<h3>What stands in the way</h3><table><thead><tr><th>Operator</th><th>Why</th><th>Cost</th><th>Cure</th><th>Where</th></tr></thead><tbody>${rows.join("")}</tbody></table>` : "";
  const levers = report.levers.map((l) => `<tr><td><b class="mono">${esc(l.op)}</b> ×${l.ops.length}</td><td>${share(l.cpu_macs, total)} of MACs on the CPU</td>
    <td>${many(l.transfers.partitions, "partition")}</td><td>${quantity(l.transfers.bytes, "B")} crossing</td></tr>`);
  $("levers").innerHTML = levers.length ? `<h3>If the accelerator took these, one after the other</h3><table><tbody>${levers.join("")}</tbody></table>` : "";
  const rewrites = report.rewrites.map((r) => `<tr><td>${r.count}×</td><td><code>${esc(r.id)}</code>${r.cure ? ' <span class="accelerated">cure</span>' : ""}</td><td>${esc(r.exactness)}</td><td>${esc(r.law)}</td></tr>`);
  $("more").innerHTML = rewrites.length ? `<h3>Rewrites applied</h3><table><tbody>${rewrites.join("")}</tbody></table>` : "";
}

// Layered layout: the depth of an operator is its row; rows are ordered by where their inputs stand.
function layout() {
  const { ops } = state, depth = [], rows = [];
  ops.forEach((op, i) => { depth[i] = op.reads.length ? Math.max(...op.reads.map((r) => depth[r] + 1)) : 0; });
  for (let i = ops.length - 1; i >= 0; i--) // a source stands just above its first reader, not at the top
    if (!ops[i].reads.length) { const readers = state.ops.length < 1e4 ? ops.findIndex((op) => op.reads.includes(i)) : -1; if (readers > 0) depth[i] = Math.max(0, depth[readers] - 1); }
  depth.forEach((d, i) => (rows[d] ||= []).push(i));
  const x = new Array(ops.length).fill(0), readers = ops.map(() => []);
  ops.forEach((op, i) => op.reads.forEach((r) => readers[r].push(i)));
  const settle = (row, near) => {
    if (!row) return;
    const wish = new Map(row.map((i) => { const n = near(i); return [i, n.length ? n.reduce((sum, j) => sum + x[j], 0) / n.length : x[i]]; }));
    row.sort((a, b) => wish.get(a) - wish.get(b) || a - b);
    const left = row.map((i) => wish.get(i));
    for (let k = 1; k < row.length; k++) left[k] = Math.max(left[k], left[k - 1] + NODE.across);
    const shift = row.reduce((sum, i, k) => sum + wish.get(i) - left[k], 0) / row.length;
    row.forEach((i, k) => { x[i] = left[k] + shift; });
  };
  for (let round = 0; round < 3; round++) {
    for (const row of rows) settle(row, (i) => ops[i].reads);
    for (const row of [...rows].reverse()) settle(row, (i) => readers[i]);
  }
  for (const row of rows) settle(row, (i) => ops[i].reads);
  state.at = ops.map((_, i) => [x[i], depth[i] * NODE.down]);
  draw(depth);
}

function draw(depth) {
  const { ops, at } = state, plain = [], crossing = [];
  ops.forEach((op, i) => op.reads.forEach((r) => {
    const [x0, y0] = [at[r][0], at[r][1] + NODE.height / 2], [x1, y1] = [at[i][0], at[i][1] - NODE.height / 2];
    const skip = depth[i] - depth[r] > 1 ? Math.min(150, 84 + 2 * (depth[i] - depth[r])) : 0, bend = Math.min(60, (y1 - y0) / 2);
    const side = skip ? (x1 >= x0 ? 1 : -1) * skip : 0;
    const path = skip ? `M${x0} ${y0}C${x0} ${y0 + bend} ${x0 + side} ${y0} ${x0 + side} ${y0 + bend}L${x0 + side} ${y1 - bend}C${x0 + side} ${y1} ${x1} ${y1 - bend} ${x1} ${y1}`
      : `M${x0} ${y0}C${x0} ${y0 + bend} ${x1} ${y1 - bend} ${x1} ${y1}`;
    (ops[r].partition === op.partition ? plain : crossing).push(path);
  }));
  $("edges").innerHTML = `<path d="${plain.join("")}"/><path class="crossing" d="${crossing.join("")}"/>`;
  const label = (op) => (op.op.length > 19 ? `${op.op.slice(0, 18)}…` : op.op);
  $("nodes").innerHTML = ops.map((op, i) => `<g class="${op.verdict}" data-op="${i}" transform="translate(${at[i][0]} ${at[i][1]})"><rect x="${-NODE.width / 2}" y="${-NODE.height / 2}" width="${NODE.width}" height="${NODE.height}"/><text>${esc(label(op))}</text></g>`).join("");
}

function look(view) {
  state.view = view;
  const svg = $("graph").firstElementChild, box = svg.getBoundingClientRect();
  svg.setAttribute("viewBox", `${view.x - box.width / 2 / view.zoom} ${view.y - box.height / 2 / view.zoom} ${box.width / view.zoom} ${box.height / view.zoom}`);
  $("graph").classList.toggle("far", view.zoom < 0.42);
}
function fit(start) {
  const box = $("graph").getBoundingClientRect(), xs = state.at.map((p) => p[0]), ys = state.at.map((p) => p[1]);
  if (!xs.length) return;
  const low = (v) => v.reduce((a, b) => Math.min(a, b)), high = (v) => v.reduce((a, b) => Math.max(a, b));
  const width = high(xs) - low(xs) + NODE.width + 60, height = high(ys) - low(ys) + NODE.height + 60;
  const whole = Math.min(box.width / width, box.height / height, 1.2);
  const first = state.ops.find((op) => op.verdict !== "accelerated");
  if (start && whole < 0.42) { // too large to be read as a whole: begin where something is wrong, else at the top
    const [x, y] = state.at[first ? first.index : 0];
    look({ x, y: Math.max(y, low(ys) + box.height / 2 - 40), zoom: 0.9 });
  } else look({ x: (high(xs) + low(xs)) / 2, y: (high(ys) + low(ys)) / 2, zoom: whole });
}

function verdictButtons() {
  const counts = VERDICTS.map((v) => [v, state.ops.filter((op) => op.verdict === v).length]).filter(([, n]) => n);
  $("verdicts").innerHTML = counts.map(([v, n]) => `<button type="button" class="${v}" data-verdict="${v}" aria-pressed="${!state.off.has(v)}">${MARKS[v]} ${v} ${n.toLocaleString("en")}</button>`).join("");
}
function matches(op, words) {
  const text = [`#${op.index}`, op.op, op.verdict, op.name, ...op.reasons.flatMap((r) => [r.rule, r.message, ...r.fixes]), ...op.origin.nodes, ...op.origin.modules, ...op.origin.sources].join("\n").toLowerCase();
  return words.every((w) => (/^#\d+$/.test(w) ? w === `#${op.index}` : text.includes(w)));
}
function filter() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const keep = new Set(state.ops.filter((op) => !state.off.has(op.verdict) && matches(op, words)).map((op) => op.index));
  const all = keep.size === state.ops.length;
  for (const node of $("nodes").children) node.classList.toggle("dim", !keep.has(+node.dataset.op));
  $("found").textContent = all ? many(keep.size, "operator") : `${keep.size.toLocaleString("en")} of ${many(state.ops.length, "operator")}`;
  state.shown = state.ops.filter((op) => keep.has(op.index));
  rows();
  strip(keep);
  if (words.length && keep.size && !all) reveal(state.shown[0].index, false);
}

const COLUMNS = [["index", "#", (o) => o.index], ["op", "Operator", (o) => o.op], ["verdict", "Verdict", (o) => VERDICTS.indexOf(o.verdict)],
  ["macs", "MACs", (o) => o.macs], ["bytes", "Bytes", (o) => o.bytes], ["why", "Why", why], ["where", "Where", place]];
function rows() {
  const [key, way] = state.sort, value = COLUMNS.find((c) => c[0] === key)[2];
  const number = (c) => (["index", "macs", "bytes"].includes(c) ? ' class="number"' : "");
  $("table").tHead.innerHTML = `<tr>${COLUMNS.map(([c, title]) => `<th${number(c)} data-sort="${c}"${c === key ? ` aria-sort="${way > 0 ? "ascending" : "descending"}"` : ""}><button type="button">${title}</button></th>`).join("")}</tr>`;
  const top = state.ops.reduce((most, op) => Math.max(most, op.macs), 1);
  const sorted = [...state.shown].sort((a, b) => { const [u, v] = [value(a), value(b)]; return way * (u < v ? -1 : u > v ? 1 : 0) || a.index - b.index; });
  $("table").tBodies[0].innerHTML = sorted.map((op) => `<tr data-op="${op.index}"${op.index === state.chosen ? ' class="chosen"' : ""}><td class="number soft">${op.index}</td><td class="mono">${esc(op.op)}</td>
    <td class="${op.verdict}">${MARKS[op.verdict]} ${op.verdict}</td><td class="number">${op.macs ? quantity(op.macs, "") : '<span class="soft">–</span>'}${op.macs ? `<span class="bar ${op.verdict}"><i style="width:${(100 * op.macs) / top}%"></i></span>` : ""}</td>
    <td class="number">${quantity(op.bytes, "B")}</td><td>${esc(why(op) || op.reasons.map((r) => r.message).join("; "))}</td><td class="mono soft">${esc(place(op))}</td></tr>`).join("");
}

function strip(keep) {
  const canvas = $("strip"), ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = 56, { ops } = state;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement), top = ops.reduce((m, op) => Math.max(m, op.macs), 1);
  pen.scale(ratio, ratio);
  ops.forEach((op, i) => {
    const x = (i * width) / ops.length, tall = 6 + 48 * Math.sqrt(op.macs / top);
    pen.fillStyle = style.getPropertyValue(`--${op.verdict}`);
    pen.globalAlpha = keep.has(i) ? 1 : 0.15;
    pen.fillRect(x, height - tall, Math.max(1, width / ops.length - (width / ops.length > 3 ? 1 : 0)), tall);
  });
}

function details(index) {
  state.chosen = index;
  for (const node of document.querySelectorAll(".chosen")) node.classList.remove("chosen");
  if (index === null) { $("details").innerHTML = '<p class="soft">Choose an operator in the graph or in the table.</p>'; return; }
  for (const node of document.querySelectorAll(`[data-op="${index}"]`)) node.classList.add("chosen");
  const op = state.ops[index], list = (title, items) => (items.length ? `<h5>${title}</h5><ul>${items.map((i) => `<li class="mono">${esc(i)}</li>`).join("")}</ul>` : "");
  const side = op.partition === null ? "on the CPU" : `in partition ${op.partition}`;
  const reasons = op.reasons.map((r) => `<h5><code>${esc(r.rule)}</code> ${esc(r.undecided ? `perhaps ${r.severity}` : r.severity)}</h5><p>${esc(r.message)}</p>${r.sources.map((s) => `<p class="soft">${esc(s)}</p>`).join("")}${r.fixes.map((f) => `<code class="cure">${esc(f)}</code>`).join("")}`).join("");
  const none = op.verdict !== "accelerated" && !op.reasons.length ? `<p>${esc(data.unruled[op.verdict])}</p>` : "";
  $("details").innerHTML = `<h4>${esc(op.op)} <span class="soft">v${op.version} #${op.index}</span></h4><p class="${op.verdict}">${MARKS[op.verdict]} ${op.verdict}, ${side}</p>${none}${reasons}
    <h5>Cost</h5><p>${op.macs ? `${quantity(op.macs, "MAC")}, ` : ""}${quantity(op.bytes, "B")} moved</p>${list("Makes", op.makes)}${list("Source", op.origin.sources)}${list("Module", op.origin.modules)}${list("Nodes of the model", op.origin.nodes.slice(0, 12))}${list("Rewrites on the way", op.origin.rewrites)}
    ${list("Reads from", op.reads.map((r) => `#${r} ${state.ops[r].op}`))}`;
}
function reveal(index, choose = true) {
  const [x, y] = state.at[index];
  look({ x, y, zoom: Math.max(state.view.zoom, 0.7) });
  if (choose) details(index);
}

function listen() {
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  let wait;
  $("search").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(filter, 80); });
  $("verdicts").addEventListener("click", (event) => {
    const v = event.target.closest("button")?.dataset.verdict;
    if (!v) return;
    if (!state.off.delete(v)) state.off.add(v);
    verdictButtons(); filter();
  });
  $("table").addEventListener("click", (event) => {
    const head = event.target.closest("th"), row = event.target.closest("tr");
    if (head) { const c = head.dataset.sort; state.sort = [c, state.sort[0] === c ? -state.sort[1] : ["macs", "bytes"].includes(c) ? -1 : 1]; rows(); }
    else if (row) reveal(+row.dataset.op);
  });
  $("causes").addEventListener("click", (event) => {
    const row = event.target.closest("[data-cause]");
    if (row) { reveal(state.report.causes[+row.dataset.cause].ops[0]); $("views").scrollIntoView({ block: "center", behavior: "smooth" }); }
  });
  $("strip").addEventListener("click", (event) => {
    const box = event.target.getBoundingClientRect(), i = Math.floor(((event.clientX - box.left) / box.width) * state.ops.length);
    if (state.ops[i]) reveal(i);
  });
  const svg = $("graph").firstElementChild, held = new Map();
  let moved = 0;
  svg.addEventListener("pointerdown", (event) => { held.set(event.pointerId, [event.clientX, event.clientY]); moved = 0; });
  addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]], other = [...held].find(([id]) => id !== event.pointerId)?.[1];
    held.set(event.pointerId, [event.clientX, event.clientY]);
    moved += Math.abs(dx) + Math.abs(dy);
    const { x, y, zoom } = state.view;
    if (other) {
      const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      look({ x, y, zoom: Math.min(4, Math.max(0.02, (zoom * far([event.clientX, event.clientY])) / far(last))) });
    } else look({ x: x - dx / zoom, y: y - dy / zoom, zoom });
  });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, (event) => held.delete(event.pointerId));
  svg.addEventListener("click", (event) => { const node = event.target.closest("[data-op]"); if (node && moved < 6) details(+node.dataset.op); });
  const zoomBy = (factor, event) => {
    const { x, y, zoom } = state.view, box = svg.getBoundingClientRect(), next = Math.min(4, Math.max(0.02, zoom * factor));
    const [dx, dy] = event ? [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2] : [0, 0];
    look({ x: x + dx / zoom - dx / next, y: y + dy / zoom - dy / next, zoom: next });
  };
  svg.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(Math.exp(-event.deltaY / 400), event); }, { passive: false });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [0, -60], ArrowDown: [0, 60], ArrowLeft: [-60, 0], ArrowRight: [60, 0] }[event.key];
    if (step) { event.preventDefault(); look({ x: state.view.x + step[0] / state.view.zoom, y: state.view.y + step[1] / state.view.zoom, zoom: state.view.zoom }); }
  });
  $("zoom").addEventListener("click", (event) => { const by = event.target.dataset.zoom; if (by === "fit") fit(false); else if (by) zoomBy(+by); });
  addEventListener("resize", () => { if (state.view) { look(state.view); filter(); } });
}

outcome();
listen();
if (data.reports.length) select(data.first);
})();
