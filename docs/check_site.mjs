// Opens every page of the built site in Chromium, as a reader would, and lists what is wrong.
//
//     mkdocs build --strict
//     (cd "$(mktemp -d)" && npm install playwright-core axe-core && cp .../docs/check_site.mjs . &&
//      node check_site.mjs .../site [FOLDER FOR SCREENSHOTS])
//
// Needs Node 18, and Chromium (Debian's; another one in CHROMIUM). Serves the site on 127.0.0.1 by
// itself. Checks: no console error, no missing file, nothing fetched from elsewhere, axe-core finds
// nothing serious in light and dark, search finds BackupAndRestore, a page is not wider than a phone.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { readFile, readdir } from "node:fs/promises";
import { extname, join, relative, resolve } from "node:path";
import { chromium } from "playwright-core";

const [site, shots] = process.argv.slice(2).map((path) => resolve(path));
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };

const server = createServer(async (request, response) => {
  const path = join(site, new URL(request.url, "http://x").pathname);
  try {
    const file = path.endsWith("/") ? join(path, "index.html") : path;
    response.setHeader("Content-Type", TYPES[extname(file)] ?? "application/octet-stream");
    response.end(await readFile(file));
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const root = `http://127.0.0.1:${server.address().port}/`;

const files = await readdir(site, { recursive: true });
const pages = files.filter((file) => file.endsWith("index.html")).map((file) => file.slice(0, -10));
// Pages that only show a source file: all of one kind, so two of them are looked at closely.
const sources = pages.filter((path) => /^repository\/.*\.\w+\/$/.test(path));
const closely = new Set([...pages.filter((path) => !sources.includes(path)), ...sources.slice(0, 2)]);
const faults = new Set();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

async function open(width, scheme) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme });
  const where = () => relative(root, page.url()) || "/";
  page.on("console", (message) => message.type() === "error" && faults.add(`${where()}: ${message.text()}`));
  page.on("pageerror", (error) => faults.add(`${where()}: ${error}`));
  page.on("response", (got) => got.status() >= 400 && faults.add(`${where()}: ${got.status()} ${got.url()}`));
  page.on("request", (asked) => {
    if (!asked.url().startsWith(root) && !asked.url().startsWith("data:") && !asked.url().startsWith("blob:"))
      faults.add(`${where()}: fetches ${asked.url()}`);
  });
  return page;
}

for (const [width, scheme] of [[1280, "light"], [1280, "dark"], [390, "light"], [390, "dark"]]) {
  const page = await open(width, scheme);
  for (const path of pages) {
    await page.goto(root + path, { waitUntil: "load" });
    if (!closely.has(path)) continue;
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) faults.add(`/${path}: ${wide} pixels wider than ${width}`);
    await page.addScriptTag({ path: axe });
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    for (const { impact, id, nodes } of found.violations)
      if (impact === "serious" || impact === "critical")
        faults.add(`/${path} ${scheme} ${width}: ${id}, ${nodes.length}: ${nodes[0].html.slice(0, 120)}`);
    if (shots) {
      const name = path.replaceAll("/", "_") || "start_";
      await page.screenshot({ path: join(shots, `${name}${width}_${scheme}.png`), fullPage: true });
    }
  }
  await page.close();
  console.log(`${width} pixels, ${scheme}: ${pages.length} pages, ${faults.size} faults so far`);
}

const page = await open(1280, "light");
await page.goto(root);
await page.keyboard.press("/"); // the search has a key
await page.keyboard.type("BackupAndRestore");
await page.waitForSelector(".md-search-result__link", { timeout: 10000 });
const hits = await page.$$eval(".md-search-result__link", (links) => links.map((link) => link.href));
if (!hits.some((hit) => hit.includes("reference/callbacks") || hit.includes("resume")))
  faults.add(`search for BackupAndRestore found ${hits}`);
if (shots) await page.screenshot({ path: join(shots, "search.png") });

await browser.close();
server.close();
for (const fault of faults) console.log(fault);
console.log(`${pages.length} pages, ${hits.length} hits of the search, ${faults.size} faults`);
process.exitCode = faults.size ? 1 : 0;
