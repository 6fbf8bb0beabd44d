// The page for people. Texts of the service are only ever set as text, never as HTML.

import { Interview } from "./interview.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 10, REMEMBERED = 500, NEAR = 6, KNOWN = 6, LONGEST_LABEL = 80, MOST_DEEDS = 200;
const DEEDS = { view: "Viewed", cart: "In the cart", purchase: "Bought" };
const EXAMPLES = {
  user: [
    ["en", "I run a small garden cafe"],
    ["de", "Ich suche Geschenke für meine kleine Nichte"],
    ["es", "Me gusta hornear pasteles para mi familia"],
    ["fr", "Je décore une vieille maison à la campagne"],
    ["zh", "我喜欢在家里烤蛋糕"],
    ["ja", "パーティーの飾りを探しています"],
  ],
  item: [
    ["en", "Set of 6 herb garden tin pots, £4.95"],
    ["en", "Red glass star for the Christmas tree"],
    ["de", "Rote Brotdose aus Metall für Kinder"],
  ],
};
const SIDES = {
  user: { path: "v1/recommend", text: "What somebody says of themselves", id: "Known user (id)", title: "Recommended", button: "Recommend" },
  item: { path: "v1/audience", text: "The text of a product", id: "Known product (id)", title: "Who would value it most", button: "Find people" },
};
const TIERS = {
  user: { warm: "Known by what they did", linked: "Known by what they did in a linked shop", cold: "Known by words or attributes alone", unknown: "Nothing is known of them: what is popular" },
  item: { warm: "It has buyers", cold: "New: known by its words", unknown: "Nothing is known of it" },
};

let side = "user";
let did = []; // [{ item_id, event_type }], of this page alone
let hidden = []; // ids of items that are not wanted
let before = []; // ids of the last list, in order
let asked = 0; // number of the latest question: an answer to an older one is dropped
let key = ""; // in memory alone
const names = new Map(); // descriptions of items by id

class Refused extends Error {}

function make(tag, text = "", settings = {}) {
  const made = Object.assign(document.createElement(tag), settings);
  made.textContent = text;
  return made;
}

function button(text, label, act) {
  const made = make("button", text, { type: "button", onclick: act });
  if (label) made.setAttribute("aria-label", label);
  return made;
}

// A text of the shop or of a user, in whatever direction it is written.
const told = (tag, text, settings = {}) => make(tag, text, { dir: "auto", ...settings });
const name = (id) => names.get(id) || id;
const short = (text) => (text.length > LONGEST_LABEL ? `${text.slice(0, LONGEST_LABEL)}…` : text);
const number = (value, digits = 2) => value.toLocaleString("en", { maximumFractionDigits: digits });
const counted = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

const interview = new Interview($("interview"), { make, told, button }, (change) => act(change));

async function call(path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const found = await response.json().catch(() => ({ detail: `the service answered ${response.status}` }));
  if (response.status === 401 || response.status === 403) {
    askForKey(key ? found.detail : "");
    throw new Refused(key ? "The service refused the key." : "The service asks for an API key.");
  }
  if (!response.ok) throw new Error(found.detail);
  return found;
}

function askForKey(why) {
  $("key-form").hidden = false;
  if (why) $("key-note").textContent = `Not accepted: ${why}.`;
}

// --- the question

function question() {
  const body = {}, text = $("text").value.trim(), id = $("id").value.trim();
  if (text) body.description = text;
  if (id) body[`${side}_id`] = id;
  if (side === "user" && did.length) body.session = did;
  return body;
}

function share() {
  const parts = new URLSearchParams({ side });
  if ($("text").value) parts.set("text", $("text").value);
  if ($("id").value) parts.set("id", $("id").value);
  for (const one of did) parts.append("did", `${one.event_type}:${one.item_id}`);
  for (const id of hidden) parts.append("not", id);
  interview.write(parts);
  history.replaceState(null, "", `#${parts}`);
}

// What the address says; what is not of this form in it is left out.
async function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  turn(given.get("side") === "item" ? "item" : "user");
  $("text").value = (given.get("text") || "").slice(0, $("text").maxLength);
  $("id").value = (given.get("id") || "").slice(0, $("id").maxLength);
  const known = (id) => id && id.length <= 256;
  did = given.getAll("did").map((one) => one.match(/^(view|cart|purchase):(.+)$/s)).filter((one) => one && known(one[2]))
    .slice(0, MOST_DEEDS).map(([, event_type, item_id]) => ({ item_id, event_type }));
  hidden = given.getAll("not").filter(known).slice(0, MOST_DEEDS);
  interview.read(given, known);
  // An item that is no longer offered needs no hiding, and asking without it is an error.
  if (hidden.length) await nameDeeds().then(() => { hidden = hidden.filter((id) => names.has(id)); }, () => {});
  if ($("text").value || $("id").value || did.length || hidden.length || interview.active) ask();
}

async function ask() {
  const body = { ...question(), k: SHOWN, explain: true }, mine = ++asked, talking = side === "user" && interview.active;
  const path = talking ? "v1/interview" : SIDES[side].path;
  if (side === "user" && hidden.length) body.without = hidden;
  if (talking) body.answers = interview.answers;
  share();
  showDeeds();
  showCurl(path, body);
  $("list").className = "asking";
  say("Asking …");
  try {
    if (side === "user") {
      // The longer list tells where items stood that were not shown.
      const longer = { ...body, k: REMEMBERED, explain: false, explore: false };
      const [answer, all, profile] = await Promise.all([call(path, body), call(path, longer), enrich(), nameDeeds()]);
      if (mine === asked) showItems(answer, all.items, profile);
    } else {
      const answer = await call(path, body);
      if (mine === asked) showUsers(answer);
    }
    if (mine === asked && !interview.focused()) $("title").focus();
  } catch (error) {
    if (mine !== asked) return;
    clear();
    $("more").hidden = error instanceof Refused;
    $("near-box").hidden = true;
    say(error instanceof TypeError ? "The service cannot be reached." : error.message, true);
    if (error instanceof Refused) $("key").focus();
  }
}

// The profile, if there is one; a service that cannot make it can still recommend.
async function enrich() {
  const body = question(), said = interview.session;
  if (said.length) body.session = [...did, ...said];
  if (!Object.keys(body).length) return null;
  try {
    return await call("v1/enrich", { ...body, k: NEAR, explain: true });
  } catch (error) {
    if (error instanceof Refused) throw error;
    return null;
  }
}

// The names of items that came with the address: no list has shown them yet.
async function nameDeeds() {
  const wanted = [...new Set([...[...did, ...interview.answers].map((one) => one.item_id), ...hidden])].filter((id) => !names.has(id));
  if (!wanted.length) return;
  const found = await Promise.all(wanted.map((id) =>
    call("v1/recommend", { among: [id], exclude_seen: false, k: 1, explore: false }).then((answer) => answer.items, (error) => {
      if (error instanceof Refused) throw error;
      return [];
    })));
  found.flat().forEach((one) => names.set(one.item_id, one.description));
  showDeeds();
}

// --- the answer

function say(text, wrong = false) {
  $("note").textContent = text;
  $("note").className = wrong ? "warning" : "dim";
}

function clear() {
  for (const id of ["title", "language", "tags", "mix", "more"]) $(id).hidden = true;
  $("list").replaceChildren();
  $("list").className = "";
}

function show(answer) {
  clear();
  $("title").hidden = $("more").hidden = false;
  $("title").textContent = SIDES[side].title;
  const unknown = answer.unknown_items?.length ? ` Not known: ${short(answer.unknown_items.join(", "))}.` : "";
  const degraded = answer.degraded ? ` Degraded: ${answer.degraded}.` : "";
  say(`${TIERS[side][answer.tier]}.${unknown}${degraded}`, Boolean(answer.degraded));
}

function showLanguage(code) {
  $("language").hidden = !code;
  if (!code) return;
  const language = new Intl.DisplayNames(["en"], { type: "language" }).of(code);
  $("language").textContent = `The text seems to be in a language that this shop's encoder does not know (${language}): little of what it says counts.`;
}

function showItems(answer, all, profile) {
  show(answer);
  if (answer.question?.item_id) names.set(answer.question.item_id, answer.question.description);
  interview.show(answer);
  showLanguage(profile?.other_language);
  showMix(profile);
  showNear(profile);
  for (const one of [...answer.items, ...all]) names.set(one.item_id, one.description);
  const moves = movesTo(all.map((one) => one.item_id));
  $("list").replaceChildren(...answer.items.map((one) => {
    const row = make("li"), what = make("div"), named = make("div", "", { className: "named" }), label = short(one.description || one.item_id);
    named.append(told("span", one.description || one.item_id, { className: "clamped" }));
    const move = moves.get(one.item_id);
    if (move) named.append(moved(move));
    what.append(named, told("div", one.because || "", { className: "dim clamped" }));
    if (one.reason === "exploration") named.append(make("span", "New, on trial", { className: "trial" }));
    else if (one.reason !== "model") what.append(make("div", one.reason, { className: "dim" }));
    const acts = make("div", "", { className: "acts" });
    acts.append(
      button("View", `View: ${label}`, () => act(() => did.push({ item_id: one.item_id, event_type: "view" }))),
      button("Buy", `Buy: ${label}`, () => act(() => did.push({ item_id: one.item_id, event_type: "purchase" }))),
      button("Not this", `Not this: ${label}`, () => act(() => hidden.push(one.item_id))),
    );
    row.append(make("span", one.rank, { className: "place" }), what, acts);
    return row;
  }));
  if (!answer.items.length) say("Nothing is left to recommend.");
  before = all.map((one) => one.item_id);
}

// By how many places each item has passed others since the last list. Items that left the list or came back move nothing.
function movesTo(now) {
  const moves = new Map();
  if (!before.length) return moves;
  const [were, are] = [new Set(before), new Set(now)];
  const places = new Map(before.filter((id) => are.has(id)).map((id, place) => [id, place]));
  now.filter((id) => were.has(id)).forEach((id, place) => moves.set(id, places.get(id) - place));
  now.filter((id) => !were.has(id)).forEach((id) => moves.set(id, "new"));
  return moves;
}

function moved(by) {
  const [sign, kind, label] = by === "new" ? ["new", "up", "new on the list"] : by > 0 ? [`↑${by}`, "up", `up ${by}`] : [`↓${-by}`, "down", `down ${-by}`];
  const mark = make("span", sign, { className: `move ${kind}`, role: "img" });
  mark.setAttribute("aria-label", label);
  return mark;
}

function showMix(profile) {
  $("mix").hidden = !profile || !(profile.words + profile.behaviour);
  if ($("mix").hidden) return;
  const { words, behaviour, evidence, alpha } = profile, share = Math.round((100 * words) / (words + behaviour));
  $("mix-title").textContent = `In the profile: words ${share} %, behaviour ${100 - share} %`;
  $("mix-bar").setAttribute("aria-label", `words ${share} per cent, behaviour ${100 - share} per cent`);
  $("mix-bar").firstElementChild.style.flexGrow = words;
  $("mix-bar").lastElementChild.style.flexGrow = behaviour;
  const without = words ? "" : " There are no words.";
  $("mix-note").textContent = `α(${number(evidence)}) = ${number(alpha)}: beside ${counted(evidence, "interaction")}, words count as much as ${counted(alpha, "interaction")}.${without} The list weighs other things beside the profile; each item says which.`;
}

function showNear(profile) {
  $("near-box").hidden = !profile?.items.length;
  $("near").replaceChildren(...(profile?.items || []).map((one) => {
    const row = make("li");
    row.append(told("span", one.description || one.item_id, { className: "clamped" }), make("span", one.cosine.toFixed(2), { className: "place" }));
    return row;
  }));
}

function showUsers(answer) {
  show(answer);
  showLanguage(answer.other_language);
  $("near-box").hidden = true;
  $("tags").hidden = !answer.tags?.length;
  $("tags").replaceChildren(...(answer.tags || []).map((tag) => make("li", `${tag.group}: ${label(tag)}`)));
  $("list").replaceChildren(...answer.users.map((one) => {
    const row = make("li"), what = make("div"), acts = make("div", "", { className: "acts" });
    what.append(told("div", `User ${one.user_id}`, { className: "clamped" }), told("div", `has ${one.bought_alike}`, { className: "dim clamped" }));
    acts.append(button("Items for them", `Items for user ${short(one.user_id)}`, () => { turn("user"); pick("", one.user_id); }));
    row.append(make("span", one.rank, { className: "place" }), what, acts);
    return row;
  }));
  if (!answer.users.length) say("Nobody is left to recommend it to.");
}

// A price is tagged with its band: 2^3 is 8 up to 16.
function label(tag) {
  const band = tag.label.match(/^2\^(-?\d+)$/);
  return band ? `${number(2 ** band[1])} up to ${number(2 ** (Number(band[1]) + 1))}` : tag.label;
}

function showDeeds() {
  const deeds = side === "item" ? [] : [
    ...did.map((one) => [`${DEEDS[one.event_type]}: ${name(one.item_id)}`, () => { did = did.filter((other) => other !== one); }]),
    ...hidden.map((id) => [`Not this: ${name(id)}`, () => { hidden = hidden.filter((other) => other !== id); }]),
    ...interview.deeds(name),
  ];
  $("did-box").hidden = !deeds.length;
  $("did").replaceChildren(...deeds.map(([text, undo]) => {
    const row = make("li");
    row.append(button(`✕ ${text}`, `Undo ${short(text)}`, () => act(undo)));
    return row;
  }));
}

function showCurl(path, body) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const authorized = key ? " \\\n  -H \"Authorization: Bearer $COLDSTART_KEY\"" : "";
  $("curl").textContent = `curl ${new URL(path, location.href)}${authorized} \\\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
}

// --- what people do

function act(change) {
  change();
  ask();
}

function fresh() {
  did = [];
  hidden = [];
  before = [];
  interview.reset();
}

function pick(text, id) {
  $("text").value = text;
  $("id").value = id;
  fresh();
  ask();
}

function turn(to) {
  side = to;
  asked++;
  fresh();
  clear();
  say("");
  showDeeds();
  $("interview").hidden = to === "item";
  for (const one of ["user", "item"]) {
    $(`tab-${one}`).setAttribute("aria-selected", one === to);
    $(`tab-${one}`).tabIndex = one === to ? 0 : -1;
  }
  $("panel").setAttribute("aria-labelledby", `tab-${to}`);
  $("text-label").textContent = SIDES[to].text;
  $("id-label").textContent = SIDES[to].id;
  $("form").querySelector("button.main").textContent = SIDES[to].button;
  $("examples").replaceChildren(...EXAMPLES[to].map(([lang, text]) => {
    const row = make("li", "", { lang });
    row.append(button(text, "", () => pick(text, "")));
    return row;
  }));
  showKnown();
}

let known = []; // some users

function showKnown() {
  $("known").hidden = side === "item" || !known.length;
  $("known").replaceChildren(...known.map((one) => {
    const row = make("li");
    row.append(button(`${short(one.user_id)} (${counted(one.evidence, "interaction")})`, "", () => pick("", one.user_id)));
    return row;
  }));
}

async function fetchKnown() {
  try {
    known = (await call(`v1/users?k=${KNOWN}`)).users;
    showKnown();
  } catch { /* an id can be typed */ }
}

async function showState() {
  let text = "the service does not answer", wrong = true;
  try {
    const found = await call("readyz");
    const pending = found.pending_events ? `${counted(found.pending_events, "event")} not yet learned` : "all events learned";
    [text, wrong] = [`bundle ${found.bundle} · ${pending} · ${found.degraded ? `degraded: ${found.degraded}` : "not degraded"}`, Boolean(found.degraded)];
  } catch { /* as it stands above */ }
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = wrong ? "warning" : "";
}

for (const one of ["user", "item"]) {
  const other = one === "user" ? "item" : "user";
  const change = (to) => {
    turn(to);
    $("text").value = $("id").value = "";
    share();
  };
  $(`tab-${one}`).onclick = () => change(one);
  $(`tab-${one}`).onkeydown = (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    change(other);
    $(`tab-${other}`).focus();
  };
}
$("form").onsubmit = (event) => {
  event.preventDefault();
  fresh();
  ask();
};
$("text").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
};
$("key-form").onsubmit = async (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  $("key-form").hidden = true;
  await fetchKnown();
  if (Object.keys(question()).length) ask();
};
window.onhashchange = restore;
restore();
fetchKnown();
showState();
setInterval(showState, 10_000);
