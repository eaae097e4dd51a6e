import { AgentoError, readError } from "./error.ts";
import type { components, paths } from "./openapi.ts";
import { type ChatEvent, readEvents } from "./stream.ts";
import type { Body, Method, Params, PathWith, Query, Result, Row } from "./types.ts";

export interface Options {
	/** The server's address, such as https://agents.example.com. */
	url: string;
	/** An API key. Keep it on your server: in a browser it belongs to every visitor. */
	apiKey: string;
	/** How often a request is repeated, and a stream is continued. 0 never does. Default: 3. */
	retries?: number;
	/** In place of the global fetch. */
	fetch?: typeof fetch;
}

/** What a request consists of. What the route does not take is not there. */
export type Call<P extends keyof paths, M extends Method> = {
	/** Ends the request. */
	signal?: AbortSignal;
	/** Names a POST, so that your own program may repeat it. By default every POST gets a new name. */
	idempotencyKey?: string;
	/** `respond-async`: do not wait until the agent runs. */
	prefer?: "respond-async";
	/** The media type of the response, where the route has several: `text/csv`. */
	accept?: string;
} & Part<"params", Params<P, M>> &
	Part<"query", Query<P, M>> &
	Part<"body", Body<P, M>>;

type Part<Name extends string, T> = [T] extends [undefined] ? { [N in Name]?: undefined } : undefined extends T ? { [N in Name]?: T } : object extends T ? { [N in Name]?: T } : { [N in Name]: T };

/** The arguments of a call: none if the route takes nothing. */
type Arguments<P extends keyof paths, M extends Method> = object extends Call<P, M> ? [call?: Call<P, M>] : [call: Call<P, M>];

export interface ChatOptions {
	/** Ends the stream. The turn goes on, unless onDisconnect is cancel. */
	signal?: AbortSignal;
	idempotencyKey?: string;
}

interface Sent {
	params?: unknown;
	query?: unknown;
	body?: unknown;
	signal?: AbortSignal;
	idempotencyKey?: string;
	prefer?: string;
	accept?: string;
}

const firstPause = 500;
const maxPause = 8_000;
const maxRetryAfter = 60;
/** How long a stream may be silent, in milliseconds: the server sends a comment at least every 15 s. */
const silence = 60_000;

/** Calls an agento server. */
export class Agento {
	readonly #url: string;
	readonly #key: string;
	readonly #retries: number;
	readonly #fetch: typeof fetch;

	constructor(options: Options) {
		if (isBrowser() && options.apiKey.startsWith("ak_")) {
			throw new Error("An API key must not be in a web page, where every visitor can read it: call agento from your own server.");
		}
		this.#url = options.url.replace(/\/$/, "");
		this.#key = options.apiKey;
		this.#retries = options.retries ?? 3;
		this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
	}

	/** Sends a GET. */
	get<P extends PathWith<"get">>(path: P, ...call: Arguments<P, "get">): Promise<Result<P, "get">> {
		return this.#json("GET", path, call[0]);
	}

	/** Sends a POST. It is repeated safely, by its Idempotency-Key. */
	post<P extends PathWith<"post">>(path: P, ...call: Arguments<P, "post">): Promise<Result<P, "post">> {
		return this.#json("POST", path, call[0]);
	}

	/** Sends a PUT. */
	put<P extends PathWith<"put">>(path: P, ...call: Arguments<P, "put">): Promise<Result<P, "put">> {
		return this.#json("PUT", path, call[0]);
	}

	/** Sends a PATCH. */
	patch<P extends PathWith<"patch">>(path: P, ...call: Arguments<P, "patch">): Promise<Result<P, "patch">> {
		return this.#json("PATCH", path, call[0]);
	}

	/** Sends a DELETE. */
	delete<P extends PathWith<"delete">>(path: P, ...call: Arguments<P, "delete">): Promise<Result<P, "delete">> {
		return this.#json("DELETE", path, call[0]);
	}

	/** Sends a GET for a response that is not JSON, such as an export or a table as CSV. */
	download<P extends PathWith<"get">>(path: P, ...call: Arguments<P, "get">): Promise<Response> {
		return this.#request("GET", path, call[0]);
	}

	/** Yields the rows of every page of a list, from the page of the query on. */
	async *list<P extends PathWith<"get">>(path: P, ...call: Arguments<P, "get">): AsyncGenerator<Row<P>, void, undefined> {
		const sent: Sent = call[0] ?? {};
		const query: Record<string, unknown> = { ...(sent.query as object | undefined) };
		for (;;) {
			const page = await this.#json<Page<Row<P>>>("GET", path, { ...sent, query });
			yield* page.data;
			const at = page.pagination;
			if (!at?.hasMore || page.data.length === 0) {
				return;
			}
			if (path === "/v1/skills") {
				query["page"] = Number(query["page"] ?? 1) + 1;
			} else if (at.after !== undefined) {
				query["after"] = at.after; // a history
			} else {
				query["offset"] = at.nextOffset ?? Number(query["offset"] ?? 0) + page.data.length;
			}
		}
	}

	/** Yields the messages of an agent, oldest first, those after `after` or all. */
	messages(agentId: string, query: { sessionId?: string; peerId?: string; since?: string; after?: string } = {}, options: { signal?: AbortSignal } = {}): AsyncGenerator<components["schemas"]["ChatMessage"], void, undefined> {
		return this.list("/v1/agents/{id}/chat/messages", { ...options, params: { id: agentId }, query: { after: "start", ...query } });
	}

	/**
	 * Sends a message and yields the events of the answer as they arrive. A stream that breaks
	 * before its last event goes on by itself, each event coming once.
	 */
	chat(agentId: string, message: components["schemas"]["ChatRequest"], options: ChatOptions = {}): AsyncGenerator<ChatEvent, void, undefined> {
		const sent: Sent = { ...options, params: { id: agentId }, body: message };
		return this.#stream(agentId, { turnId: "", id: 0 }, (signal) => this.#request("POST", "/v1/agents/{id}/chat/messages", { ...sent, signal }), options.signal);
	}

	/** Yields the events of a turn whose number is greater than `after`, as chat does. */
	followTurn(agentId: string, turnId: string, options: { after?: number; signal?: AbortSignal } = {}): AsyncGenerator<ChatEvent, void, undefined> {
		const at = { turnId, id: options.after ?? 0 };
		return this.#stream(agentId, at, (signal) => this.#openTurn(agentId, at, signal), options.signal);
	}

	/** Sends a message and returns the whole answer. */
	async ask(agentId: string, message: components["schemas"]["ChatRequest"], options: ChatOptions = {}): Promise<{ text: string; sessionId: string; turnId: string; stopReason: string }> {
		let text = "";
		for await (const event of this.chat(agentId, message, options)) {
			if (event.type === "text") {
				text += event.content;
			} else if (event.type === "error") {
				throw new AgentoError(0, event.code, event.message, { turnId: event.turnId }, new Headers());
			} else {
				return { text, sessionId: event.sessionId, turnId: event.turnId, stopReason: event.stopReason };
			}
		}
		throw new Error("the answer ended before its end");
	}

	/** Yields the last `tail` lines of an agent's log, and then each line as it appears. */
	async *followLogs(agentId: string, options: { tail?: number; signal?: AbortSignal } = {}): AsyncGenerator<string, void, undefined> {
		const { signal, ...query } = options;
		const response = await this.#request("GET", "/v1/agents/{id}/logs/stream", { params: { id: agentId }, query, ...(signal && { signal }) });
		for await (const event of readEvents(bodyOf(response), () => undefined)) {
			yield event.data;
		}
	}

	#openTurn(agentId: string, at: { turnId: string; id: number }, signal: AbortSignal): Promise<Response> {
		return this.#request("GET", "/v1/agents/{id}/chat/turns/{turnId}/stream", { params: { id: agentId, turnId: at.turnId }, query: { after: at.id }, signal });
	}

	async *#stream(agentId: string, at: { turnId: string; id: number }, open: (signal: AbortSignal) => Promise<Response>, outer?: AbortSignal): AsyncGenerator<ChatEvent, void, undefined> {
		for (let n = 0; ; n++) {
			const attempt = new AbortController();
			const signal = outer ? AbortSignal.any([outer, attempt.signal]) : attempt.signal;
			let failure: unknown = new Error("the stream ended before its last event");
			const watch = new Watch(() => attempt.abort(new Error("the server has sent nothing for a minute")));
			try {
				const response = await open(signal);
				at.turnId = response.headers.get("x-turn-id") ?? at.turnId;
				watch.reset();
				for await (const line of readEvents(bodyOf(response), () => watch.reset())) {
					const event = { ...JSON.parse(line.data), turnId: at.turnId, id: Number(line.id) } as ChatEvent;
					at.id = Math.max(at.id, event.id);
					n = -1; // this attempt has brought something
					watch.stop(); // the reader may take its time
					yield event;
					if (event.type !== "text") {
						return;
					}
					watch.reset();
				}
			} catch (error) {
				failure = error;
			} finally {
				watch.stop();
				attempt.abort(); // closes the connection when the reader wants no more
			}
			outer?.throwIfAborted();
			const resumes = at.turnId !== "" && !(failure instanceof AgentoError) && Math.max(n, 0) < this.#retries;
			if (!resumes || !(await pause(Math.max(n, 0), failure, outer))) {
				throw failure;
			}
			open = (signal) => this.#openTurn(agentId, at, signal);
		}
	}

	async #json<T>(method: string, path: string, call: Sent | undefined): Promise<T> {
		const response = await this.#request(method, path, call);
		return (await response.json()) as T;
	}

	async #request(method: string, path: string, call: Sent = {}): Promise<Response> {
		const headers = new Headers({ "X-Api-Key": this.#key });
		if (call.prefer !== undefined) {
			headers.set("Prefer", call.prefer);
		}
		if (call.accept !== undefined) {
			headers.set("Accept", call.accept);
		}
		if (method === "POST" && (call.idempotencyKey !== undefined || this.#retries > 0)) {
			headers.set("Idempotency-Key", call.idempotencyKey ?? crypto.randomUUID());
		}
		const init: RequestInit = { method, headers, redirect: "manual" }; // following it would take the key elsewhere
		if (call.body instanceof Uint8Array || call.body instanceof Blob) {
			headers.set("Content-Type", "application/gzip");
			init.body = call.body as BodyInit;
		} else if (call.body !== undefined) {
			headers.set("Content-Type", "application/json");
			init.body = JSON.stringify(call.body);
		}
		if (call.signal) {
			init.signal = call.signal;
		}
		const safe = method === "GET" || headers.has("Idempotency-Key");
		const url = this.#url + fill(path, call.params as Record<string, unknown> | undefined) + queryOf(call.query as Record<string, unknown> | undefined);
		for (let n = 0; ; n++) {
			let failure: unknown;
			try {
				const response = await this.#fetch(url, init);
				if (response.ok) {
					return response;
				}
				failure = await readError(response);
			} catch (error) {
				failure = error;
			}
			call.signal?.throwIfAborted();
			if (n >= this.#retries || !canRepeat(failure, safe) || !(await pause(n, failure, call.signal))) {
				throw failure;
			}
		}
	}
}

interface Page<T> {
	data: T[];
	pagination?: { hasMore: boolean; nextOffset?: string | null; after?: string };
}

/** Calls a function after a silence. */
class Watch {
	#timer: ReturnType<typeof setTimeout> | undefined;
	readonly #call: () => void;

	constructor(call: () => void) {
		this.#call = call;
	}

	reset(): void {
		this.stop();
		this.#timer = setTimeout(this.#call, silence);
	}

	stop(): void {
		clearTimeout(this.#timer);
	}
}

function isBrowser(): boolean {
	return typeof (globalThis as { window?: unknown }).window === "object" && typeof (globalThis as { document?: unknown }).document === "object";
}

function bodyOf(response: Response): ReadableStream<Uint8Array> {
	if (!response.body) {
		throw new Error("the response has no body");
	}
	return response.body;
}

/** Replaces the braces of a path. */
function fill(path: string, params: Record<string, unknown> | undefined): string {
	return path.replace(/\{(\w+)\}/g, (_, name: string) => {
		const value = String(params?.[name] ?? "");
		if (value === "" || value === "." || value === "..") {
			throw new TypeError(`${name} must name something`); // the path would be another one
		}
		return encodeURIComponent(value);
	});
}

function queryOf(query: Record<string, unknown> | undefined): string {
	const all = new URLSearchParams();
	for (const [name, value] of Object.entries(query ?? {})) {
		if (value !== undefined) {
			all.set(name, String(value));
		}
	}
	return all.size > 0 ? `?${all}` : "";
}

/**
 * Whether a request that failed may be sent again: it changed nothing, or a repetition has the
 * same result. safe says so of any failure.
 */
function canRepeat(failure: unknown, safe: boolean): boolean {
	if (!(failure instanceof AgentoError)) {
		return safe && failure instanceof TypeError; // what fetch throws if there is no response
	}
	if (failure.headers.has("idempotency-replayed")) {
		return false; // a kept response stays as it is
	}
	return [429, 503, 504].includes(failure.status) || (safe && failure.status === 502);
}

/** Waits before the n-th repetition. It returns false if the server asks for too long a pause. */
async function pause(n: number, failure: unknown, signal: AbortSignal | undefined): Promise<boolean> {
	let milliseconds = Math.min(firstPause * 2 ** n, maxPause) * (1 + Math.random() / 4);
	if (failure instanceof AgentoError && failure.retryAfter !== undefined) {
		if (failure.retryAfter > maxRetryAfter) {
			return false;
		}
		milliseconds = failure.retryAfter * 1000;
	}
	await new Promise<void>((resolve) => {
		const timer = setTimeout(resolve, milliseconds);
		signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
	});
	signal?.throwIfAborted();
	return true;
}
