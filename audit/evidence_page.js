"use strict";
/* Checks a pack of evidence: docs/formats/audit-log.md, section 9. Nothing is trusted but the keys
   that were typed in. Every problem stops what depends on it and is told; only a pack without any
   problem is green. */
const WORDS = {
  en: {
    title: "Check evidence from an audit log",
    lead: "Nothing leaves this page. It needs the log's key, which must not come from the pack.",
    key: "Verifier key of the log",
    key_more: "From where the log publishes it, or from paper. Never from whoever handed you the pack.",
    witnesses: "Keys of witnesses, one a line (optional)",
    pack: "The pack (.zip)",
    check: "Check",
    events: "Events whose proof holds, read from their own bytes",
    when: "When", who: "Who", did: "Did", purpose: "Purpose", whom: "Whom", fields: "Fields", verdict: "Verdict",
    good: "● The evidence holds",
    good_more: "{count} events are in the log {origin}, under the signed head of {size} events, byte for byte as recorded. Whether these are all events of their kind, only the whole log shows.",
    bad: "○ The evidence does not hold",
    bad_more: "Keep the pack as it is, and ask for it again by another way.",
    unsure: "◐ Not checked",
    bad_key: "the key is no verifier key (NAME+ID+BASE64, Ed25519)",
    no_ed25519: "this browser cannot check Ed25519 signatures. Use a newer one, or another program: c2sp.org/tlog-proof",
    no_crypto: "this browser gives a page from a file no cryptography. Use another one",
    bad_zip: "the file is no pack, or is damaged",
    twice: "two files have this name",
    one_key: "log and witnesses must each have a key of their own",
    missing: "the file is missing",
    malformed: "the file is not of its format",
    unsigned: "not signed by the key you gave",
    signature: "the signature by the key you gave does not fit: text or signature was changed",
    origin: "it is of another log than the key",
    unwitnessed: "a witness you named has not signed this",
    other_head: "the proof is under another checkpoint than the pack's",
    path: "event and proof do not lead to the signed root: one of them was changed",
    index: "the proof is of another place than its name says",
    row: "the row does not lead to the root that its event names: one of them was changed",
    policy: "the policy texts are not those of this digest",
    empty: "there is no event in the pack",
    uncovered: "Not covered by any signature: {names}",
  },
  th: {
    title: "ตรวจหลักฐานจากบันทึกการตรวจสอบ",
    lead: "ไม่มีข้อมูลใดออกจากหน้านี้ ต้องใช้กุญแจของบันทึก ซึ่งต้องไม่ได้มาจากชุดหลักฐานนี้",
    key: "กุญแจตรวจของบันทึก",
    key_more: "เอาจากที่ที่บันทึกเผยแพร่ไว้ หรือจากกระดาษ อย่าเอาจากผู้ที่ส่งชุดหลักฐานให้คุณ",
    witnesses: "กุญแจของพยาน บรรทัดละหนึ่งดอก (ถ้ามี)",
    pack: "ชุดหลักฐาน (.zip)",
    check: "ตรวจ",
    events: "เหตุการณ์ที่พิสูจน์ได้ อ่านจากข้อมูลของเหตุการณ์เอง",
    when: "เวลา", who: "ใคร", did: "ทำอะไร", purpose: "วัตถุประสงค์", whom: "กับใคร", fields: "ข้อมูล", verdict: "ผล",
    good: "● หลักฐานถูกต้อง",
    good_more: "เหตุการณ์ {count} รายการอยู่ในบันทึก {origin} ใต้หัวที่ลงลายเซ็นไว้ {size} เหตุการณ์ ตรงทุกไบต์ตามที่บันทึก ส่วนจะครบทุกเหตุการณ์หรือไม่ ต้องดูจากบันทึกทั้งหมด",
    bad: "○ หลักฐานไม่ถูกต้อง",
    bad_more: "เก็บชุดหลักฐานไว้ตามเดิม แล้วขอใหม่ด้วยทางอื่น",
    unsure: "◐ ยังไม่ได้ตรวจ",
    bad_key: "ไม่ใช่กุญแจตรวจ (NAME+ID+BASE64, Ed25519)",
    no_ed25519: "เบราว์เซอร์นี้ตรวจลายเซ็น Ed25519 ไม่ได้ ใช้รุ่นใหม่กว่า หรือโปรแกรมอื่น: c2sp.org/tlog-proof",
    no_crypto: "เบราว์เซอร์นี้ไม่ให้หน้าจากไฟล์ใช้การเข้ารหัส ใช้เบราว์เซอร์อื่น",
    bad_zip: "ไฟล์นี้ไม่ใช่ชุดหลักฐาน หรือเสียหาย",
    twice: "มีสองไฟล์ชื่อเดียวกัน",
    one_key: "บันทึกและพยานแต่ละรายต้องมีกุญแจของตนเอง",
    missing: "ไม่มีไฟล์นี้",
    malformed: "ไฟล์ไม่ตรงรูปแบบ",
    unsigned: "ไม่ได้ลงลายเซ็นด้วยกุญแจที่คุณให้",
    signature: "ลายเซ็นของกุญแจที่คุณให้ไม่ตรง ข้อความหรือลายเซ็นถูกแก้",
    origin: "เป็นของบันทึกอื่น ไม่ใช่ของกุญแจนี้",
    unwitnessed: "พยานที่คุณระบุไม่ได้ลงลายเซ็น",
    other_head: "หลักฐานอยู่ใต้หัวอื่น ไม่ใช่หัวของชุดนี้",
    path: "เหตุการณ์กับหลักฐานไม่นำไปสู่รากที่ลงลายเซ็น มีอย่างใดอย่างหนึ่งถูกแก้",
    index: "หลักฐานเป็นของลำดับอื่น ไม่ตรงกับชื่อไฟล์",
    row: "แถวนี้ไม่นำไปสู่รากที่เหตุการณ์ระบุ มีอย่างใดอย่างหนึ่งถูกแก้",
    policy: "ข้อความนโยบายไม่ตรงกับค่าแฮชนี้",
    empty: "ไม่มีเหตุการณ์ในชุดนี้",
    uncovered: "ไม่มีลายเซ็นรับรอง: {names}",
  },
  "zh-Hant": {
    title: "驗證稽核紀錄的證據",
    lead: "任何資料都不會離開本頁。需要紀錄的驗證金鑰，且不可取自證據包。",
    key: "紀錄的驗證金鑰",
    key_more: "取自紀錄公布之處或紙本，切勿取自交給您證據包的人。",
    witnesses: "見證人的金鑰，每行一把（選填）",
    pack: "證據包（.zip）",
    check: "驗證",
    events: "證明成立的事件，讀自其原始位元組",
    when: "時間", who: "誰", did: "做了什麼", purpose: "目的", whom: "對誰", fields: "欄位", verdict: "結果",
    good: "● 證據成立",
    good_more: "{count} 筆事件存在於紀錄 {origin} 中，位於 {size} 筆事件的已簽署樹首之下，與記錄時逐位元組相同。是否為同類的全部事件，須以完整紀錄為準。",
    bad: "○ 證據不成立",
    bad_more: "請保留此證據包原樣，並以其他途徑重新索取。",
    unsure: "◐ 未驗證",
    bad_key: "這不是驗證金鑰（NAME+ID+BASE64，Ed25519）",
    no_ed25519: "此瀏覽器無法驗證 Ed25519 簽章。請用較新的瀏覽器或其他程式：c2sp.org/tlog-proof",
    no_crypto: "此瀏覽器不允許檔案頁面使用密碼學功能，請改用其他瀏覽器",
    bad_zip: "此檔案不是證據包，或已損壞",
    twice: "有兩個同名檔案",
    one_key: "紀錄與每位見證人須各有自己的金鑰",
    missing: "缺少此檔案",
    malformed: "檔案格式不符",
    unsigned: "並非以您提供的金鑰簽署",
    signature: "您提供的金鑰之簽章不符：文字或簽章遭更改",
    origin: "屬於另一份紀錄，與金鑰不符",
    unwitnessed: "您指定的見證人未簽署",
    other_head: "證明屬於另一個樹首，並非此證據包的",
    path: "事件與證明無法導向已簽署的根：其中之一遭更改",
    index: "證明的位置與檔名不符",
    row: "此列無法導向其事件所載的根：其中之一遭更改",
    policy: "政策文字與此雜湊值不符",
    empty: "證據包中沒有事件",
    uncovered: "未受簽章涵蓋：{names}",
  },
};
const HEADER = "c2sp.org/tlog-proof@v1";
const MOST_REASONS = 20;
const utf8 = new TextEncoder();
const byId = (id) => document.getElementById(id);
let language = "en";
const say = (key, values = {}) =>
  Object.entries(values).reduce((text, [name, value]) => text.replace(`{${name}}`, () => value), WORDS[language][key]);

class Bad extends Error {
  constructor(key, place = "") {
    super(key);
    this.key = key;
    this.place = place;
  }
}

/* --- bytes ------------------------------------------------------------------------------- */
const join = (...parts) => {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
};
const same = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);
const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const textOf = (bytes, place) => {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Bad("malformed", place);
  }
};
const unbase64 = (text, place) => {
  try {
    const raw = atob(text);
    if (btoa(raw) === text && text) return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
  } catch { /* told below */ }
  throw new Bad("malformed", place);
};

/* --- the zip: stored files only, each name once, one behind the other: what another program
   takes out of it is what was checked here -------------------------------------------------- */
function unzip(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = bytes.length - 22;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw new Bad("bad_zip");
  const files = new Map();
  const folded = new Set();
  let at = view.getUint32(end + 16, true);
  const start = at;
  let next = 0;
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    if (at + 46 > end || view.getUint32(at, true) !== 0x02014b50) throw new Bad("bad_zip");
    const size = view.getUint32(at + 24, true);
    const nameLength = view.getUint16(at + 28, true);
    const name = textOf(bytes.subarray(at + 46, at + 46 + nameLength), "zip");
    const local = view.getUint32(at + 42, true);
    if (view.getUint16(at + 10, true) !== 0 || size !== view.getUint32(at + 20, true)) throw new Bad("bad_zip", name);
    if (local + 30 > at || view.getUint32(local, true) !== 0x04034b50) throw new Bad("bad_zip", name);
    const from = local + 30 + nameLength;
    const plain = view.getUint32(at + 30, true) === 0 && view.getUint16(local + 28, true) === 0;
    const alike = same(bytes.subarray(local + 6, local + 28), bytes.subarray(at + 8, at + 30)) &&
      same(bytes.subarray(local + 30, from), bytes.subarray(at + 46, at + 46 + nameLength));
    if (!plain || !alike || local !== next || from + size > start) throw new Bad("bad_zip", name);
    if (folded.has(name.toLowerCase())) throw new Bad("twice", name);
    folded.add(name.toLowerCase());
    files.set(name, bytes.subarray(from, from + size));
    at += 46 + nameLength;
    next = from + size;
  }
  if (at !== end || next !== start || view.getUint16(end + 20, true) !== 0) throw new Bad("bad_zip");
  return files;
}

/* --- keys and signed notes (c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature) ------ */
async function readKey(text) {
  const match = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/u.exec(text.trim());
  if (!match) throw new Bad("bad_key");
  let material;
  try {
    material = unbase64(match[3], "");
  } catch {
    throw new Bad("bad_key");
  }
  const id = (await sha256(utf8.encode(`${match[1]}\n`), material)).subarray(0, 4);
  if (hex(id) !== match[2] || material.length !== 33 || ![1, 4].includes(material[0])) throw new Bad("bad_key");
  let key;
  try {
    key = await crypto.subtle.importKey("raw", material.subarray(1), { name: "Ed25519" }, false, ["verify"]);
  } catch {
    throw new Bad("no_ed25519");
  }
  return { name: match[1], id, kind: material[0], key, material: hex(material.subarray(1)) };
}

function readNote(note, place) {
  const cut = note.lastIndexOf("\n\n");
  if (cut < 0 || !note.endsWith("\n")) throw new Bad("malformed", place);
  const text = note.slice(0, cut + 1);
  const signatures = note.slice(cut + 2, -1).split("\n").map((line) => {
    const parts = line.split(" ");
    if (parts.length !== 3 || parts[0] !== "\u2014" || !parts[1]) throw new Bad("malformed", place);
    const blob = unbase64(parts[2], place);
    return { name: parts[1], id: blob.subarray(0, 4), signature: blob.subarray(4) };
  });
  const lines = text.split("\n");
  if (lines.length !== 4 || !lines[0] || !/^(0|[1-9][0-9]{0,15})$/u.test(lines[1])) throw new Bad("malformed", place);
  const root = unbase64(lines[2], place);
  if (root.length !== 32) throw new Bad("malformed", place);
  return { text, signatures, origin: lines[0], size: BigInt(lines[1]), root };
}

async function signedBy(note, key) {
  const mine = note.signatures.find((one) => one.name === key.name && same(one.id, key.id));
  if (!mine) return null;
  let { signature } = mine;
  let signed = note.text;
  if (key.kind === 4) {
    if (signature.length !== 72) return false;
    const time = new DataView(signature.buffer, signature.byteOffset, 8).getBigUint64(0);
    signed = `cosignature/v1\ntime ${time}\n${note.text}`;
    signature = signature.subarray(8);
  }
  return crypto.subtle.verify({ name: "Ed25519" }, key.key, signature, utf8.encode(signed));
}

/* --- the path (RFC 9162 section 2.1.3.2) -------------------------------------------------- */
async function climb(index, size, leaf, path) {
  if (index >= size) return null;
  let fn = index;
  let sn = size - 1n;
  let hash = leaf;
  for (const sibling of path) {
    if (sn === 0n || sibling.length !== 32) return null;
    if (fn & 1n || fn === sn) {
      hash = await sha256(Uint8Array.of(1), sibling, hash);
      while (fn !== 0n && !(fn & 1n)) {
        fn >>= 1n;
        sn >>= 1n;
      }
    } else {
      hash = await sha256(Uint8Array.of(1), hash, sibling);
    }
    fn >>= 1n;
    sn >>= 1n;
  }
  return sn === 0n ? hash : null;
}

function readProof(text, place) {
  const cut = text.indexOf("\n\n");
  const lines = text.slice(0, cut < 0 ? 0 : cut).split("\n");
  const index = /^index (0|[1-9][0-9]{0,15})$/u.exec(lines[1] ?? "");
  if (lines[0] !== HEADER || !index) throw new Bad("malformed", place);
  return { index: BigInt(index[1]), path: lines.slice(2).map((line) => unbase64(line, place)), note: text.slice(cut + 2) };
}

/* --- the whole pack ----------------------------------------------------------------------- */
async function check(bytes, keyText, witnessTexts) {
  const reasons = [];
  const events = [];
  const uncovered = [];
  const noteDown = (error) => {
    if (!(error instanceof Bad)) throw error;
    if (reasons.length < MOST_REASONS) reasons.push({ key: error.key, place: error.place });
  };
  const key = await readKey(keyText);
  const witnesses = [];
  for (const text of witnessTexts) witnesses.push(await readKey(text));
  if (key.kind !== 1 || witnesses.some((one) => one.kind !== 4)) throw new Bad("bad_key");
  if (new Set([key, ...witnesses].map((one) => one.material)).size <= witnesses.length) throw new Bad("one_key");
  const files = unzip(bytes);
  if (!files.has("checkpoint")) throw new Bad("missing", "checkpoint");
  const noteText = textOf(files.get("checkpoint"), "checkpoint");
  const note = readNote(noteText, "checkpoint");
  const good = await signedBy(note, key);
  if (!good) noteDown(new Bad(good === null ? "unsigned" : "signature", "checkpoint"));
  if (note.origin !== key.name) noteDown(new Bad("origin", "checkpoint"));
  for (const witness of witnesses) {
    if (!(await signedBy(note, witness))) noteDown(new Bad("unwitnessed", witness.name));
  }
  const names = new Set();
  const packs = new Map();
  for (const name of files.keys()) {
    const policy = /^policies\/([0-9a-f]{64})\/((?:pack|overlay)\/.+)$/u.exec(name);
    if (policy) {
      packs.set(policy[1], [...(packs.get(policy[1]) ?? []), policy[2]]);
      continue;
    }
    const match = /^(?:(?:events|rows)\/([0-9]{12,16})\.json|proofs\/([0-9]{12,16})\.tlog-proof)$/u.exec(name);
    if (match) names.add(match[1] ?? match[2]);
    else if (name !== "checkpoint") uncovered.push(name);
  }
  for (const [digest, paths] of packs) {
    if (await policyDigest(files, digest, paths) !== digest) noteDown(new Bad("policy", `policies/${digest}`));
  }
  if (names.size === 0) noteDown(new Bad("empty"));
  for (const name of [...names].sort()) {
    try {
      events.push(await checkOne(files, name, noteText, note));
    } catch (error) {
      noteDown(error);
    }
  }
  const named = new Set(events.map(({ body }) => body?.policy));
  for (const digest of packs.keys()) if (!named.has(`sha256:${digest}`)) uncovered.push(`policies/${digest}`);
  return { reasons, events, uncovered, note };
}

async function policyDigest(files, digest, paths) {
  const inOrder = [...paths.filter((path) => path.startsWith("pack/")).sort(), ...paths.filter((path) => path.startsWith("overlay/")).sort()];
  const lines = [];
  for (const path of inOrder) {
    lines.push(`${path}\nsha256:${hex(await sha256(files.get(`policies/${digest}/${path}`)))}\n`);
  }
  return hex(await sha256(utf8.encode(lines.join(""))));
}

async function checkOne(files, name, noteText, note) {
  const eventName = `events/${name}.json`;
  const proofName = `proofs/${name}.tlog-proof`;
  for (const each of [eventName, proofName]) if (!files.has(each)) throw new Bad("missing", each);
  const proof = readProof(textOf(files.get(proofName), proofName), proofName);
  if (proof.note !== noteText) throw new Bad("other_head", proofName);
  if (proof.index.toString().padStart(12, "0") !== name) throw new Bad("index", proofName);
  const leaf = await sha256(Uint8Array.of(0), files.get(eventName));
  const root = await climb(proof.index, note.size, leaf, proof.path);
  if (root === null || !same(root, note.root)) throw new Bad("path", eventName);
  let body;
  try {
    body = JSON.parse(textOf(files.get(eventName), eventName));
  } catch {
    throw new Bad("malformed", eventName);
  }
  return { index: proof.index, body, row: await checkRow(files, `rows/${name}.json`, body) };
}

/* The row of one member in an event about many: to the root that the proven event names. */
async function checkRow(files, name, body) {
  if (!files.has(name)) return null;
  let said;
  try {
    said = JSON.parse(textOf(files.get(name), name));
  } catch {
    throw new Bad("malformed", name);
  }
  const fields = body?.fields ?? [];
  const read = /^([0-9a-f]{32}) ([0-9a-f]+)$/u.exec(said?.row ?? "");
  const shaped = read && Array.isArray(fields) && Array.isArray(said.hashes) && Number.isInteger(said.place)
    && said.place >= 0 && read[2].length === Math.max(1, Math.ceil(fields.length / 4));
  if (!shaped) throw new Bad("malformed", name);
  const { rows, root } = body.manifest ?? {};
  if (!Number.isInteger(rows) || rows < 1 || rows > 1000 || typeof root !== "string") throw new Bad("row", name);
  const leaf = await sha256(Uint8Array.of(0), utf8.encode(said.row));
  const path = said.hashes.map((text) => unbase64(String(text), name));
  const found = await climb(BigInt(said.place), BigInt(rows), leaf, path);
  if (found === null || hex(found) !== root) throw new Bad("row", name);
  const code = BigInt(`0x${read[2]}`);
  if (code >> BigInt(fields.length)) throw new Bad("malformed", name);
  return { token: read[1], fields: fields.filter((_, at) => (code >> BigInt(at)) & 1n) };
}

/* --- the page ----------------------------------------------------------------------------- */
function show(outcome, said, reasons, events = []) {
  const result = byId("result");
  result.hidden = false;
  result.className = outcome;
  byId("verdict").textContent = say({ ok: "good", bad: "bad" }[outcome] ?? "unsure");
  byId("told").textContent = said;
  byId("reasons").replaceChildren(...reasons.map((one) => {
    const item = document.createElement("li");
    const place = document.createElement("code");
    place.textContent = one.place;
    item.dataset.reason = one.key;
    item.append(...(one.place ? [place, ": "] : []), one.text ?? say(one.key));
    return item;
  }));
  byId("events").hidden = events.length === 0;
  byId("events").tBodies[0].replaceChildren(...events.map(({ index, body, row: own }) => {
    const row = document.createElement("tr");
    const cells = [
      index, body.ts, `${body.actor?.id ?? ""} ${body.actor?.role ?? ""}`, body.action,
      [body.purpose, body.channel].filter(Boolean).join(" · "), own?.token ?? body.subject?.token ?? (body.manifest ? `× ${body.manifest.rows}` : ""),
      (own?.fields ?? body.fields ?? []).join(", "), [body.decision, body.reason].filter(Boolean).join(": "),
    ];
    row.append(...cells.map((text) => {
      const cell = document.createElement("td");
      cell.textContent = text ?? "";
      return cell;
    }));
    return row;
  }));
  result.focus();
}

const listed = (names) => [...names.slice(0, MOST_REASONS), ...(names.length > MOST_REASONS ? ["…"] : [])].join(", ");

async function submit(event) {
  event.preventDefault();
  byId("result").hidden = true;
  if (!globalThis.crypto?.subtle) return show("unsure", "", [{ key: "no_crypto", place: "" }]);
  const witnesses = byId("witnesses").value.split("\n").filter((line) => line.trim());
  try {
    const bytes = new Uint8Array(await byId("pack").files[0].arrayBuffer());
    const { reasons, events, uncovered, note } = await check(bytes, byId("key").value, witnesses);
    if (reasons.length) return show("bad", say("bad_more"), reasons);
    const values = { count: events.length, origin: note.origin, size: note.size };
    const rest = uncovered.length ? [{ key: "uncovered", place: "", text: say("uncovered", { names: listed(uncovered) }) }] : [];
    return show("ok", say("good_more", values), rest, events);
  } catch (error) {
    if (!(error instanceof Bad)) return show("bad", say("bad_more"), [{ key: "bad_zip", place: "" }]);
    const outcome = ["no_ed25519", "bad_key", "one_key"].includes(error.key) ? "unsure" : "bad";
    return show(outcome, outcome === "bad" ? say("bad_more") : "", [error]);
  }
}

function speak(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  document.title = say("title");
  for (const part of document.querySelectorAll("[data-t]")) part.textContent = say(part.dataset.t);
  byId("result").hidden = true;
}

const NAMES = { th: "ไทย", en: "English", "zh-Hant": "繁體中文" };
for (const [code, name] of Object.entries(NAMES)) {
  const button = document.createElement("button");
  button.type = "button";
  button.lang = code;
  button.textContent = name;
  button.addEventListener("click", () => speak(code));
  byId("languages").append(button);
}
const first = navigator.language.toLowerCase();
speak(first.startsWith("th") ? "th" : first.startsWith("zh") ? "zh-Hant" : "en");
byId("form").addEventListener("submit", submit);
