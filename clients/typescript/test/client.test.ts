// Runs against a real server: TestTypeScriptClient in internal/api starts it.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Agento, AgentoError } from "../src/index.ts";

const env = (name: string): string => {
	const value = process.env[name];
	assert.ok(value, `${name} is not set`);
	return value;
};
const url = env("AGENTO_URL");
const agent = env("AGENTO_AGENT");
const agento = new Agento({ url, apiKey: env("AGENTO_API_KEY") });

/** A fetch that answers with what it is given, then asks the server. It records the requests. */
function scripted(...answers: (Response | Error)[]) {
	const requests: Request[] = [];
	const call: typeof fetch = async (input, init) => {
		requests.push(new Request(input, init));
		const answer = answers.shift();
		if (answer instanceof Error) {
			throw answer;
		}
		return answer ?? fetch(input, init);
	};
	return { requests, fetch: call };
}

const refused = (status: number, headers: Record<string, string> = {}) =>
	new Response(JSON.stringify({ error: { code: "unavailable", message: "Later.", requestId: "req_1" } }), { status, headers });

test("agents, swarms and documents", async () => {
	const { data: swarm } = await agento.post("/v1/swarms", { body: { name: "Growth" } });
	const { data: changed } = await agento.patch("/v1/swarms/{id}", { params: { id: swarm.id }, body: { description: "All of it" } });
	assert.equal(changed.description, "All of it");
	const { data: created } = await agento.post("/v1/agents", { body: { name: "B", swarmId: swarm.id, secrets: { anthropicApiKey: "sk-ant-test" } }, prefer: "respond-async" });
	assert.equal(created.status, "provisioning");
	const { data: details } = await agento.get("/v1/agents/{id}", { params: { id: created.id } });
	assert.equal(details.swarm?.id, swarm.id);
	await agento.put("/v1/agents/{id}/workflow", { params: { id: created.id }, body: { workflowMd: "# Work" } });
	await agento.delete("/v1/agents/{id}", { params: { id: created.id } });
	await agento.delete("/v1/swarms/{id}", { params: { id: swarm.id } });
	assert.equal((await agento.get("/v1/account")).data.name, "acme");
});

test("a chat and its history", async () => {
	const seen: string[] = [];
	for await (const event of agento.chat(agent, { message: "Hello", peerId: "ada" })) {
		assert.match(event.turnId, /^turn_/);
		seen.push(event.type === "text" ? event.content : event.type);
	}
	assert.equal(seen.join(""), "You said: Hellodone");
	const answer = await agento.ask(agent, { message: "Again", peerId: "ada" });
	assert.equal(answer.text, "You said: Again");
	const messages = [];
	for await (const message of agento.messages(agent, { sessionId: answer.sessionId })) {
		messages.push(message.content);
	}
	assert.deepEqual(messages, ["Hello", "You said: Hello", "Again", "You said: Again"]);
	const again = [];
	for await (const event of agento.followTurn(agent, answer.turnId)) {
		again.push(event.type === "text" ? event.content : event.type);
	}
	assert.equal(again.join(""), "You said: Againdone");
});

test("a stream that breaks goes on, and its turn is one", async () => {
	const cut = new Agento({ url: env("AGENTO_CUT_URL"), apiKey: env("AGENTO_API_KEY") });
	const answer = await cut.ask(agent, { message: "Hello", peerId: "cut" });
	assert.equal(answer.text, "You said: Hello");
	const { data: turns } = await agento.get("/v1/agents/{id}/chat/turns", { params: { id: agent }, query: { sessionId: answer.sessionId } });
	assert.equal(turns.length, 1);
});

test("a stream that cannot go on fails", async () => {
	const single = new Agento({ url: env("AGENTO_CUT_URL"), apiKey: env("AGENTO_API_KEY"), retries: 0 });
	await assert.rejects(single.ask(agent, { message: "Hello", peerId: "once" }));
});

test("a turn ends with its signal, if it is to", async () => {
	const abort = new AbortController();
	await assert.rejects(async () => {
		for await (const event of agento.chat(agent, { message: "wait", peerId: "abort", onDisconnect: "cancel" }, { signal: abort.signal })) {
			assert.equal(event.type === "text" && event.content, "Waiting");
			abort.abort();
		}
	}, { name: "AbortError" });
	for (;;) {
		const { data } = await agento.get("/v1/agents/{id}/chat/turns", { params: { id: agent }, query: { limit: 1 } });
		if (data[0]?.state === "cancelled") {
			break;
		}
	}
});

test("the end of the loop closes the connection", async () => {
	for await (const event of agento.chat(agent, { message: "wait", peerId: "break", onDisconnect: "cancel" })) {
		assert.equal(event.type, "text");
		break;
	}
	for (;;) {
		const { data } = await agento.get("/v1/agents/{id}/chat/turns", { params: { id: agent }, query: { limit: 1 } });
		if (data[0]?.state === "cancelled") {
			break;
		}
	}
});

test("lists of every kind", async () => {
	const texts = ["The office opens at nine.", "Refunds take five days.", "Parrots live in forests."];
	await agento.post("/v1/knowledge/ingest", { body: { agentId: agent, chunks: texts.map((text, i) => ({ text, source: `${i}` })) } });
	const knowledge = [];
	for await (const entry of agento.list("/v1/knowledge", { query: { agentId: agent, limit: 2 } })) {
		knowledge.push(entry.text);
	}
	assert.deepEqual(knowledge, texts);
	for (let i = 0; i < 3; i++) {
		await agento.post("/v1/agents/{id}/chat/sessions", { params: { id: agent }, body: { peerId: "lists" } });
	}
	const sessions = new Set();
	for await (const session of agento.list("/v1/agents/{id}/chat/sessions", { params: { id: agent }, query: { peerId: "lists", limit: 2 } })) {
		sessions.add(session.id);
	}
	assert.equal(sessions.size, 3);
	const { pagination } = await agento.get("/v1/skills", {});
	const skills = new Set();
	for await (const skill of agento.list("/v1/skills", { query: { pageSize: 2 } })) {
		skills.add(skill.id);
	}
	assert.equal(skills.size, pagination.total);
});

test("a log, and a table as CSV", async () => {
	for await (const line of agento.followLogs(agent, { tail: 1 })) {
		assert.match(line, /a line$/);
		break;
	}
	const response = await agento.download("/v1/usage", { accept: "text/csv" });
	assert.match(response.headers.get("content-type") ?? "", /csv/);
	await response.body?.cancel();
});

test("an archive goes out and comes in", async () => {
	const archive = new Uint8Array(await (await agento.download("/v1/agents/{id}/export", { params: { id: agent } })).arrayBuffer());
	const { data } = await agento.post("/v1/agents/import", { query: { name: "Copy" }, body: archive });
	assert.equal(data.name, "Copy");
	await agento.delete("/v1/agents/{id}", { params: { id: data.id } });
});

test("errors have what the server says", async () => {
	await assert.rejects(agento.get("/v1/agents/{id}", { params: { id: "none" } }), (error: unknown) => {
		assert.ok(error instanceof AgentoError);
		assert.equal(error.status, 404);
		assert.equal(error.code, "not_found");
		assert.match(error.requestId ?? "", /^req_/);
		return true;
	});
	await assert.rejects(agento.post("/v1/swarms", { body: { name: "" } }), (error: unknown) => error instanceof AgentoError && "name" in error.details);
	const slow = new Agento({ url, apiKey: env("AGENTO_SLOW_KEY"), retries: 0 });
	await slow.get("/v1/account");
	await assert.rejects(slow.get("/v1/account"), (error: unknown) => error instanceof AgentoError && error.code === "rate_limited" && (error.retryAfter ?? 0) > 0);
	await assert.rejects(agento.get("/v1/agents/{id}", { params: { id: ".." } }), TypeError);
});

test("requests are repeated where that is safe", async () => {
	for (const [first, method, sent] of [
		[refused(503), "post", 2],
		[new TypeError("fetch failed"), "post", 2],
		[refused(502), "post", 2],
		[new TypeError("fetch failed"), "patch", 1],
		[refused(502), "patch", 1],
		[refused(504, { "Idempotency-Replayed": "true" }), "post", 1],
		[refused(429, { "Retry-After": "3600" }), "post", 1],
	] as const) {
		const server = scripted(first);
		const client = new Agento({ url, apiKey: env("AGENTO_API_KEY"), fetch: server.fetch });
		const call = method === "post" ? client.post("/v1/agents/{id}/chat/sessions", { params: { id: agent }, body: { peerId: "retry" } }) : client.patch("/v1/agents/{id}", { params: { id: agent }, body: { name: "A" } });
		await (sent === 2 ? call : assert.rejects(call));
		assert.equal(server.requests.length, sent);
		const keys = new Set(server.requests.map((request) => request.headers.get("Idempotency-Key")));
		assert.equal(keys.size, 1);
		assert.equal(keys.has(null), method === "patch");
	}
});

test("a redirect is an error, and nothing follows it", async () => {
	const elsewhere = createServer((_, response) => response.writeHead(307, { Location: `${url}/v1/account` }).end()).listen(0, "127.0.0.1");
	await once(elsewhere, "listening");
	const { port } = elsewhere.address() as AddressInfo;
	const client = new Agento({ url: `http://127.0.0.1:${port}`, apiKey: env("AGENTO_API_KEY") });
	await assert.rejects(client.get("/v1/account"), (error: unknown) => error instanceof AgentoError && error.code === "foreign_answer");
	elsewhere.close();
});

test("a key of the caller makes a repetition the same request", async () => {
	const call = () => agento.post("/v1/agents/{id}/chat/sessions", { params: { id: agent }, body: { peerId: "once" }, idempotencyKey: "test-once" });
	assert.equal((await call()).data.id, (await call()).data.id);
});

test("an API key is refused in a page", () => {
	Object.assign(globalThis, { window: {}, document: {} });
	try {
		assert.throws(() => new Agento({ url, apiKey: "ak_live_0" }), /web page/);
	} finally {
		Reflect.deleteProperty(globalThis, "window");
		Reflect.deleteProperty(globalThis, "document");
	}
});
