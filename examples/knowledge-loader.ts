// Loads the Markdown files of a directory into the knowledge of an agent. A file that was loaded
// before replaces what it had then.
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { Agento } from "../clients/typescript/src/index.ts";

const { AGENTO_URL = "", AGENTO_API_KEY = "", AGENTO_AGENT = "" } = process.env;
const agento = new Agento({ url: AGENTO_URL, apiKey: AGENTO_API_KEY }); // a key with the scope knowledge:write
const dir = process.argv[2] ?? ".";

/** Joins the paragraphs of a text to chunks that the server takes: at most 4,000 characters each. */
function chunks(text: string): string[] {
	const all: string[] = [];
	for (const paragraph of text.split(/\n\s*\n/).flatMap((p) => p.match(/[^]{1,3500}/gu) ?? [])) {
		const last = all.at(-1);
		if (last !== undefined && last.length + paragraph.length < 1500) all[all.length - 1] = `${last}\n\n${paragraph}`;
		else all.push(paragraph);
	}
	return all.filter((chunk) => chunk.trim() !== "");
}

for (const source of (await readdir(dir, { recursive: true })).filter((name) => name.endsWith(".md")).sort()) {
	const texts = chunks(await readFile(join(dir, source), "utf8"));
	for (let i = 0; i < texts.length; i += 100) {
		const body = { agentId: AGENTO_AGENT, chunks: texts.slice(i, i + 100).map((text) => ({ text, source })), replaceSource: i === 0 };
		const { data } = await agento.post("/v1/knowledge/ingest", { body });
		console.log(`${source}: ${data.stored} stored, ${data.skipped} skipped, ${data.deleted ?? 0} deleted`);
	}
}
